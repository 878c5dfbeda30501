"""Validation with the windows of `predict`: scores of each student and the fused map, and quality of pseudo-labels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.data.roles import Area
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.inference.sliding import Sliding
from co2s_cli.models.ensemble import Ensemble, fuse, learns_from_peer
from co2s_cli.scoring.matrix import Confusion, Scores, confusion, labelled_classes
from co2s_cli.students import STUDENT_NAMES
from co2s_cli.tiling import Window, spans

FUSED = "fused"

PART_SIDE = 2048
"""Side in pixels of the parts that a large area is split into, one of which is in memory at a time."""


MAX_GAP = 0.2
"""Largest difference in mean IoU of two students that is not remarked."""


def lagging(mious: Mapping[str, float]) -> str | None:
    """A remark on the worst student if the best one is more than `MAX_GAP` better; None if it is not.

    `mious`: mean IoU by name; other names than those of students do not count.
    """
    students = {name: miou for name, miou in mious.items() if name in STUDENT_NAMES}
    if not students:
        return None
    best, worst = max(students, key=students.__getitem__), min(students, key=students.__getitem__)
    gap = students[best] - students[worst]
    if gap <= MAX_GAP:
        return None
    return (
        f"{worst} is {100 * gap:.0f} points of mean IoU behind {best}, and the mean of the students may suffer: "
        f"compare a map of {best} alone (co2s predict --fusion {best})"
    )


@dataclass(frozen=True, slots=True)
class ValidationCounts:
    """Exact counts over labelled validation pixels; counts of different ranks and areas add up."""

    confusions: dict[str, Confusion]
    """Confusion matrix by student, and of the fused map as "fused"."""
    sure: dict[str, int]
    """By student: pixels whose confidence reaches the threshold, which would be pseudo-labels."""
    right: dict[str, int]
    """By student: pixels of `sure` with the true class."""
    taught: dict[str, int]
    """By student: pixels where it would learn from another student."""
    agreed: int
    """Pixels where all students predict the same class."""
    pixels: int
    """All labelled validation pixels."""

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the matrices worth reporting: of a single student only the fused map, which equals its own."""
        return tuple(self.confusions) if len(self.confusions) > 2 else (FUSED,)

    def vector(self) -> NDArray[np.int64]:
        """All counts in a fixed order, for a sum over ranks; `with_vector` reads them back."""
        matrices = [matrix.ravel() for matrix in self.confusions.values()]
        numbers = [*self.sure.values(), *self.right.values(), *self.taught.values(), self.agreed, self.pixels]
        return np.concatenate([*matrices, np.array(numbers, np.int64)])

    def plain(self) -> dict[str, Any]:
        """All counts as JSON data; `of` reads them back."""
        confusions = {name: matrix.tolist() for name, matrix in self.confusions.items()}
        return {
            "confusions": confusions,
            "sure": self.sure,
            "right": self.right,
            "taught": self.taught,
            "agreed": self.agreed,
            "pixels": self.pixels,
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ValidationCounts:
        """The counts in data from `plain`."""
        confusions = {name: np.array(rows, np.int64) for name, rows in content["confusions"].items()}
        return cls(**{**content, "confusions": confusions})

    def with_vector(self, vector: NDArray[np.int64]) -> ValidationCounts:
        """Counts with the same students and classes, and the numbers of `vector`."""
        values = iter(vector.tolist())
        confusions = {
            name: np.array(list(islice(values, matrix.size)), np.int64).reshape(matrix.shape)
            for name, matrix in self.confusions.items()
        }
        sure, right, taught = ({name: next(values) for name in part} for part in (self.sure, self.right, self.taught))
        return ValidationCounts(confusions, sure, right, taught, next(values), next(values))

    def facts(self) -> dict[str, float]:
        """Figures for the records of a run, in [0, 1], by "student/figure"; without pseudo-labels no "precision"."""
        figures: dict[str, float] = {}
        for name, matrix in self.confusions.items():
            scores = Scores.of(matrix, over=labelled_classes(matrix))
            figures[f"{name}/miou"], figures[f"{name}/accuracy"] = scores.miou, scores.accuracy
        for name, sure in self.sure.items():
            figures[f"{name}/coverage"] = sure / max(self.pixels, 1)
            if sure:
                figures[f"{name}/precision"] = self.right[name] / sure
            figures[f"{name}/taught"] = self.taught[name] / max(self.pixels, 1)
        figures["agreement"] = self.agreed / max(self.pixels, 1)
        return figures


def evaluate(
    ensemble: Ensemble,
    areas: Sequence[Area],
    scaling: Scaling,
    sliding: Sliding,
    *,
    threshold: Tensor,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    rank: int = 0,
    ranks: int = 1,
) -> ValidationCounts:
    """Counts over parts `rank`, `rank` + `ranks`, … of the areas; those of all ranks add up to the whole.

    `threshold` (N,): by class, the smallest confidence of a pseudo-label.
    """
    total = empty_counts(tuple(ensemble.students), len(ensemble.manifest.classes))
    vector = total.vector()
    parts = [part for area in areas for part in area_parts(area, whole=sliding.short_side is not None)]
    for part in parts[rank::ranks]:
        members = area_probabilities(ensemble, part, scaling, sliding, device=device, dtype=dtype)
        with part.labels.reader() as labels, part.scene.reader() as reader:
            truth = np.where(reader.valid(part.window), labels.read(part.window), np.uint8(IGNORE))
        vector = vector + _count_part(members, truth, ensemble, threshold).vector()
    return total.with_vector(vector)


def area_probabilities(
    ensemble: Ensemble, area: Area, scaling: Scaling, sliding: Sliding, *, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Each student's probabilities (N, h, w) for an area, also where logits are blended.

    They equal those of `predict`'s map of the whole scene: windows extend beyond the area, and are read one by one,
    once for all students. If areas are resized first, as in the published code, the area is mapped alone and in one
    piece.
    """
    probabilities = {}
    with area.scene.reader() as reader:
        # keeps the windows of the area in the scene's sample type, which is smaller than float32
        read = functools.cache(lambda window: reader.read(window).pixels)

        def view(window: Window) -> Tensor:
            return torch.from_numpy(scaling.apply(read(window))).to(device)

        if sliding.short_side is None:
            blend = partial(sliding.part, view=view, of=area.scene.grid.shape, area=area.window)
        else:
            blend = partial(sliding, image=view(area.window))
        for name, student in ensemble.students.items():
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                blended = blend(student)
            probabilities[name] = blended.softmax(dim=0) if sliding.blend == "logits" else blended
    return probabilities


def area_parts(area: Area, *, whole: bool) -> list[Area]:
    """The area split into parts of at most `PART_SIDE` × `PART_SIDE` pixels; with `whole` (resized areas) unsplit."""
    window = area.window
    if whole:
        return [area]
    return [
        replace(area, window=Window(window.row + top, window.col + left, bottom - top, right - left))
        for top, bottom in spans(window.height, PART_SIDE)
        for left, right in spans(window.width, PART_SIDE)
    ]


@torch.no_grad()
def _count_part(
    members: Mapping[str, Tensor], truth: NDArray[np.uint8], ensemble: Ensemble, threshold: Tensor
) -> ValidationCounts:
    """Counts of one part of an area: probabilities (N, h, w) of each student against true class ids (h, w)."""
    classes = len(ensemble.manifest.classes)
    labelled = torch.from_numpy(truth != IGNORE).to(threshold.device)
    true_ids = torch.from_numpy(truth.astype(np.int64)).to(threshold.device)
    best = {name: member.max(dim=0) for name, member in members.items()}
    fused = fuse({name: member[None] for name, member in members.items()}, ensemble.manifest.fusion)[0].argmax(dim=0)
    predicted = {**{name: top.indices for name, top in best.items()}, FUSED: fused}
    sure = {name: (top.values >= threshold[top.indices]) & labelled for name, top in best.items()}
    taught = {}
    for name, top in best.items():
        peers = [best[peer] for peer in best if peer != name]
        masks = [learns_from_peer(top.values, peer.values, threshold[peer.indices]) & labelled for peer in peers]
        taught[name] = int(torch.stack(masks).any(dim=0).sum()) if masks else 0
    class_ids = torch.stack([top.indices for top in best.values()])
    agreed = labelled & (class_ids == class_ids[:1]).all(dim=0)
    return ValidationCounts(
        confusions={name: confusion(truth, ids.cpu().numpy(), classes) for name, ids in predicted.items()},
        sure={name: int(mask.sum()) for name, mask in sure.items()},
        right={name: int((mask & (best[name].indices == true_ids)).sum()) for name, mask in sure.items()},
        taught=taught,
        agreed=int(agreed.sum()),
        pixels=int(labelled.sum()),
    )


def empty_counts(students: Sequence[str], classes: int) -> ValidationCounts:
    """Counts that are all 0."""
    zeros = dict.fromkeys(students, 0)
    confusions = {name: np.zeros((classes, classes), np.int64) for name in (*students, FUSED)}
    return ValidationCounts(confusions, zeros, dict(zeros), dict(zeros), 0, 0)
