"""The model files of a run.

The last weights, those of the best validation of all students and of each alone, and those that all labels have made in
the end, the ones that validated among them.
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
    """A model file that holds the weights of the step with the highest mIoU of one kind."""

    prefix: str
    """Of names: empty for the model, `EMA` for the running mean of its weights."""
    scored: str
    """Whose mIoU decides: `FUSED`, or a student's name; the file then holds that student alone."""

    @property
    def name(self) -> str:
        """File name in the run folder."""
        return self.prefix + (BEST if self.scored == FUSED else best_of(self.scored))

    @property
    def counts_name(self) -> str:
        """File name of what was counted when it was validated."""
        return counts_of(self.name)

    @property
    def figure(self) -> str:
        """Name of its mIoU among the findings of a validation."""
        return f"{self.prefix}{self.scored}/miou"

    def key(self, what: str) -> str:
        """Name of its "step" or "miou" in the state of the run."""
        return self.prefix + (what if self.scored == FUSED else f"{self.scored}/{what}")

    def content(self, model: Ensemble) -> Ensemble:
        """What of a model it holds."""
        return model if self.scored == FUSED else alone(model, self.scored)


def best_files(students: Sequence[str], *, select_students: bool, averaged: bool) -> tuple[BestFile, ...]:
    """The files of a run that keep a best step; of a student alone only where there are several.

    `averaged`: the run keeps a running mean of its weights.
    """
    scored = (FUSED, *(students if select_students and len(students) > 1 else ()))
    return tuple(BestFile(prefix, name) for prefix in (("", EMA) if averaged else ("",)) for name in scored)


def check_kept(folder: Path, files: Iterable[BestFile]) -> None:
    """Refuse a run that has lost or damaged a model file which it may name as its best one in the end.

    Raises:
        ModelError: the file, and what can be done.
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
    """One student of a model as a model of its own, on the same tensors; its own validation is that of its map."""
    manifest = model.manifest
    training: dict[str, Any] = dict(manifest.training)
    if "validation" in training:
        own = {key: value for key, value in training["validation"].items() if key.startswith(f"{student}/")}
        fused = {f"{FUSED}/{figure}": own[f"{student}/{figure}"] for figure in ("miou", "accuracy")}
        training["validation"] = {**own, **fused}
    specs = {name: spec for name, spec in manifest.students.items() if name == student}
    changed = {"students": specs, "fusion": "mean", "training": training}
    return Ensemble(manifest.model_copy(update=changed), {student: model.students[student]})
