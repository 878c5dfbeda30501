"""Validation by predict's windows: each student and the fused pair, and what the pseudo-labels are worth."""

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
from co2s_cli.tiling import Window, spans

FUSED = "fused"

PIECE = 2048
"""Side, in pixels, of the pieces of a large area that are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class ValidationCounts:
    """Exact counts over labelled validation pixels; tallies of ranks and areas add up."""

    confusions: dict[str, Confusion]
    """For each student and the fused ensemble."""
    sure: dict[str, int]
    """Pixels where a student's confidence reaches the threshold: those that it would learn from."""
    right: dict[str, int]
    """Those of them that are right."""
    taught: dict[str, int]
    """Pixels where a student would learn from the other one."""
    agreed: int
    """Pixels where the students say the same."""
    pixels: int

    @property
    def told(self) -> tuple[str, ...]:
        """The names that say different things: one student alone is the fused map."""
        return tuple(self.confusions) if len(self.confusions) > 2 else (FUSED,)

    def vector(self) -> NDArray[np.int64]:
        """All counts in a fixed order."""
        parts = [matrix.ravel() for matrix in self.confusions.values()]
        single = [*self.sure.values(), *self.right.values(), *self.taught.values(), self.agreed, self.pixels]
        return np.concatenate([*parts, np.array(single, np.int64)])

    def plain(self) -> dict[str, Any]:
        """All counts as data for JSON; `of` reads it back."""
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
        """The counts in plain data."""
        confusions = {name: np.array(rows, np.int64) for name, rows in content["confusions"].items()}
        return cls(**{**content, "confusions": confusions})

    def filled(self, vector: NDArray[np.int64]) -> ValidationCounts:
        """A tally of the same names with the counts of `vector`."""
        values = iter(vector.tolist())
        confusions = {
            name: np.array(list(islice(values, matrix.size)), np.int64).reshape(matrix.shape)
            for name, matrix in self.confusions.items()
        }
        sure, right, taught = ({name: next(values) for name in part} for part in (self.sure, self.right, self.taught))
        return ValidationCounts(confusions, sure, right, taught, next(values), next(values))

    def facts(self) -> dict[str, float]:
        """What the record of a run keeps of a validation."""
        found: dict[str, float] = {}
        for name, matrix in self.confusions.items():
            scores = Scores.of(matrix, over=labelled_classes(matrix))
            found[f"{name}/miou"], found[f"{name}/accuracy"] = scores.miou, scores.accuracy
        for name, sure in self.sure.items():
            found[f"{name}/coverage"] = sure / max(self.pixels, 1)
            if sure:  # of no pseudo-labels no share is right
                found[f"{name}/precision"] = self.right[name] / sure
            found[f"{name}/taught"] = self.taught[name] / max(self.pixels, 1)
        found["agreement"] = self.agreed / max(self.pixels, 1)
        return found


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
    """Counts over every `ranks`-th part of the areas from part `rank` on; the counts of all ranks add up.

    `threshold` (N), by class, is the confidence from which on a pixel becomes a pseudo-label.
    """
    total = nothing_counted(tuple(ensemble.students), len(ensemble.manifest.classes))
    vector = total.vector()
    parts = [part for area in areas for part in pieces(area, whole=sliding.short_side is not None)]
    for part in parts[rank::ranks]:
        members = chances(ensemble, part, scaling, sliding, device=device, dtype=dtype)
        with part.labels.reader() as labels, part.scene.reader() as reader:
            truth = np.where(reader.valid(part.window), labels.read(part.window), np.uint8(IGNORE))
        vector = vector + _counted(members, truth, ensemble, threshold).vector()
    return total.filled(vector)


def chances(
    ensemble: Ensemble, area: Area, scaling: Scaling, sliding: Sliding, *, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Each student's probabilities (N, h, w) for an area, whatever was blended.

    They are those of the map that predict makes of the whole scene: the windows, which are read one by one, reach into
    the area's surroundings, once for all students. What is resized first, as the published code does, is seen alone
    and in one piece.
    """
    found = {}
    with area.scene.reader() as reader:
        read = functools.cache(lambda window: reader.read(window).pixels)  # of an area, in the scene's own small type

        def view(window: Window) -> Tensor:
            return torch.from_numpy(scaling.apply(read(window))).to(device)

        if sliding.short_side is None:
            blend = partial(sliding.part, view=view, of=area.scene.grid.shape, area=area.window)
        else:
            blend = partial(sliding, image=view(area.window))
        for name, student in ensemble.students.items():
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                blended = blend(student)
            found[name] = blended.softmax(dim=0) if sliding.blend == "logits" else blended
    return found


def pieces(area: Area, *, whole: bool) -> list[Area]:
    """An area, or the pieces of one that is too large for the memory; what is resized stays whole."""
    window = area.window
    if whole:
        return [area]
    return [
        replace(area, window=Window(window.row + top, window.col + left, bottom - top, right - left))
        for top, bottom in spans(window.height, PIECE)
        for left, right in spans(window.width, PIECE)
    ]


@torch.no_grad()
def _counted(
    members: Mapping[str, Tensor], truth: NDArray[np.uint8], ensemble: Ensemble, threshold: Tensor
) -> ValidationCounts:
    """Counts of one area: probabilities (N, h, w) of each student against the true class ids (h, w)."""
    classes = len(ensemble.manifest.classes)
    known = torch.from_numpy(truth != IGNORE).to(threshold.device)
    right = torch.from_numpy(truth.astype(np.int64)).to(threshold.device)
    best = {name: part.max(dim=0) for name, part in members.items()}
    fused = fuse({name: part[None] for name, part in members.items()}, ensemble.manifest.fusion)[0].argmax(dim=0)
    said = {**{name: part.indices for name, part in best.items()}, FUSED: fused}
    sure = {name: (part.values >= threshold[part.indices]) & known for name, part in best.items()}
    taught = {}
    for name, part in best.items():
        peers = [best[peer] for peer in best if peer != name]
        masks = [learns_from_peer(part.values, peer.values, threshold[peer.indices]) & known for peer in peers]
        taught[name] = int(torch.stack(masks).any(dim=0).sum()) if masks else 0
    classes_said = torch.stack([part.indices for part in best.values()])
    agreed = known & (classes_said == classes_said[:1]).all(dim=0)
    return ValidationCounts(
        confusions={name: confusion(truth, part.cpu().numpy(), classes) for name, part in said.items()},
        sure={name: int(mask.sum()) for name, mask in sure.items()},
        right={name: int((mask & (best[name].indices == right)).sum()) for name, mask in sure.items()},
        taught=taught,
        agreed=int(agreed.sum()),
        pixels=int(known.sum()),
    )


def nothing_counted(students: Sequence[str], classes: int) -> ValidationCounts:
    """Counts of no pixel."""
    blank = dict.fromkeys(students, 0)
    confusions = {name: np.zeros((classes, classes), np.int64) for name in (*students, FUSED)}
    return ValidationCounts(confusions, blank, dict(blank), dict(blank), 0, 0)
