"""The model files of a run: last weights, those with the best validation, and those trained with all labels.

Best validations are kept for the fused map of all students and, on request, for each student.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co2s_cli.errors import ModelError
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.scoring.validation import FUSED
from co2s_cli.training.names import BEST, EMA, best_of, counts_of


@dataclass(frozen=True, slots=True)
class BestFile:
    """A model file with the weights of the step at which one validation mIoU was highest."""

    prefix: str
    """Prefix of file and figure names: empty for the model, `EMA` for the running mean of its weights."""
    scored: str
    """Which mIoU: `FUSED` for the fused map, or a student's name; the file then holds only that student."""

    @property
    def name(self) -> str:
        """File name in the run folder."""
        return self.prefix + (BEST if self.scored == FUSED else best_of(self.scored))

    @property
    def counts_name(self) -> str:
        """Name of the file with the validation counts of that step."""
        return counts_of(self.name)

    @property
    def figure(self) -> str:
        """Name of its mIoU among the figures of a validation."""
        return f"{self.prefix}{self.scored}/miou"

    def key(self, what: str) -> str:
        """Key of its best `what`, "step" or "miou", in the state of the run."""
        return self.prefix + (what if self.scored == FUSED else f"{self.scored}/{what}")

    def content(self, model: Ensemble) -> Ensemble:
        """The model to store in the file: `model`, or its scored student as a model."""
        return model if self.scored == FUSED else alone(model, self.scored)


def best_files(students: Sequence[str], *, select_students: bool, averaged: bool) -> tuple[BestFile, ...]:
    """The best files of a run: for the fused map, and with `select_students` for each of several students.

    `averaged`: the run keeps a running mean of its weights, which has best files too.
    """
    scored = (FUSED, *(students if select_students and len(students) > 1 else ()))
    return tuple(BestFile(prefix, name) for prefix in (("", EMA) if averaged else ("",)) for name in scored)


def check_kept(folder: Path, files: Iterable[BestFile]) -> None:
    """Refuse to resume a run if one of its best files, which its report may name, is missing or damaged.

    Raises:
        ModelError: names the file, and what can be done.
    """
    for file in files:
        path = folder / file.name
        if not path.is_file():
            raise ModelError(
                f"{path}: is missing, and the state of the run says that it was written",
                hint="put it back as the run wrote it, or start a new run",
            )
        weights.check_digest(path)


def alone(model: Ensemble, student: str) -> Ensemble:
    """One student of a model as a model with the same tensors; the student's validation scores are those of its map."""
    manifest = model.manifest
    training: dict[str, Any] = dict(manifest.training)
    if "validation" in training:
        scores = {key: value for key, value in training["validation"].items() if key.startswith(f"{student}/")}
        fused = {f"{FUSED}/{figure}": scores[f"{student}/{figure}"] for figure in ("miou", "accuracy")}
        training["validation"] = {**scores, **fused}
    specs = {name: spec for name, spec in manifest.students.items() if name == student}
    changes = {"students": specs, "fusion": "mean", "training": training}
    return Ensemble(manifest.model_copy(update=changes), {student: model.students[student]})
