"""From counts to figures: what a protocol makes of a tally."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from co2s_cli.metrics.boundary import boundary_score
from co2s_cli.metrics.calibration import Reliability
from co2s_cli.metrics.matrix import Confusion, Scores
from co2s_cli.metrics.protocol import Protocol, counted, scored, with_missing
from co2s_cli.scoring.tally import Tally


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How right one class is; None where it occurs in neither map and truth."""

    id: int
    name: str
    counts: bool
    """Whether it is one of those that the means are taken over."""
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    boundary_f1: float | None
    """None where neither map nor truth has a border of it."""
    truth_pixels: int
    map_pixels: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every figure; shares in [0, 1]."""

    protocol: Protocol
    excluded: tuple[str, ...]
    accuracy: float
    """Share of the pixels that are right."""
    kappa: float
    miou: float
    mf1: float
    boundary_f1: float | None
    """Mean over the classes that count and have a border."""
    tolerance: float
    """Pixels within which a border counts as met."""
    pixels: int
    """Pixels that count."""
    missing: int
    """Labelled pixels without a class on the map."""
    missing_share: float
    """Of all labelled pixels that the protocol looks at."""
    missing_is_wrong: bool
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Pixels by true class (row) and class on the map (column)."""
    reliability: Reliability | None


@dataclass(frozen=True, slots=True)
class Judge:
    """A protocol, and what it is asked."""

    protocol: Protocol
    names: tuple[str, ...]
    excluded: tuple[int, ...] = ()
    missing_is_wrong: bool = False

    def verdict(self, tally: Tally, tolerance: float, reliability: Reliability | None) -> Verdict:
        """The figures of a tally."""
        size = len(self.names)
        matrix = counted(tally.matrix[:size, :size], self.protocol, self.excluded)
        missing = tally.missing[:size].copy()
        if self.protocol == "mask":
            missing[list(self.excluded)] = 0
        over = scored(matrix, self.protocol, self.excluded)
        if self.missing_is_wrong:
            matrix = with_missing(matrix, missing)
            over = [one for one in scored(matrix, self.protocol, self.excluded) if one < size]
        scores = Scores.of(matrix, over)
        classes = self._classes(matrix, scores, tally, over)
        edges = [one.boundary_f1 for one in classes if one.counts and one.boundary_f1 is not None]
        lost, seen = int(missing.sum()), int(matrix[:size, :size].sum())
        return Verdict(
            protocol=self.protocol,
            excluded=tuple(self.names[one] for one in self.excluded),
            accuracy=scores.accuracy,
            kappa=scores.kappa,
            miou=scores.miou,
            mf1=scores.mf1,
            boundary_f1=float(np.mean(edges)) if edges else None,
            tolerance=tolerance,
            pixels=scores.pixels,
            missing=lost,
            missing_share=lost / max(lost + seen, 1),
            missing_is_wrong=self.missing_is_wrong,
            classes=classes,
            confusion=tuple(tuple(row) for row in matrix[:size].tolist()),
            reliability=reliability,
        )

    def miou(self, matrix: Confusion) -> float:
        """The mean IoU that the protocol makes of a matrix alone."""
        kept = counted(matrix, self.protocol, self.excluded)
        return Scores.of(kept, scored(kept, self.protocol, self.excluded)).miou

    def _classes(
        self, matrix: Confusion, scores: Scores, tally: Tally, over: Collection[int]
    ) -> tuple[ClassScore, ...]:
        truth, drawn = matrix.sum(axis=1), matrix.sum(axis=0)
        return tuple(
            self._class(one, scores, tally, counts=one in over, pixels=(int(truth[one]), int(drawn[one])))
            for one in range(len(self.names))
        )

    def _class(self, one: int, scores: Scores, tally: Tally, *, counts: bool, pixels: Sequence[int]) -> ClassScore:
        edge = boundary_score(tally.borders, one)
        figures = [part[one] for part in (scores.iou, scores.precision, scores.recall, scores.f1)]
        iou, precision, recall, f1 = figures if sum(pixels) and one not in self.excluded else [None] * 4
        return ClassScore(
            id=one,
            name=self.names[one],
            counts=counts,
            iou=iou,
            precision=precision,
            recall=recall,
            f1=f1,
            boundary_f1=edge.f1 if edge.pixels and one not in self.excluded else None,
            truth_pixels=pixels[0],
            map_pixels=pixels[1],
        )
