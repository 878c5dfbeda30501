"""From counts to figures: what a protocol makes of a tally."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from co2s_cli.scoring.boundary import BoundaryScore, boundary_score
from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.counts import MapCounts
from co2s_cli.scoring.matrix import Confusion, Scores
from co2s_cli.scoring.protocol import MASKING, Protocol, counted, scored, with_missing


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How right one class is; None where the truth does not hold it: of such a class nothing can be said."""

    id: int
    name: str
    counts: bool
    """Whether it is one of those that the means are taken over."""
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    boundary_f1: float | None
    """None where neither map nor truth has a border of it, and where the truth labels it without any: polygons that
    touch no other class tell nothing of borders."""
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
    names: Mapping[int, str]
    """Of the classes that are told of, by the id that they are counted under."""
    excluded: tuple[int, ...] = ()
    missing_is_wrong: bool = False

    def verdict(self, tally: MapCounts, tolerance: float, reliability: Reliability | None) -> Verdict:
        """The figures of a tally."""
        size, out = len(self.names), self._places_out
        matrix = counted(self._told(tally.matrix), self.protocol, out)
        missing = tally.missing[list(self.names)]
        if self.protocol in MASKING:
            missing[out] = 0
        lost, seen = int(missing.sum()), int(matrix.sum())
        if self.missing_is_wrong:
            matrix = with_missing(matrix, missing)
        over = [place for place in scored(matrix, self.protocol, out) if place < size]
        scores = Scores.of(matrix, over)
        classes = tuple(self._class(place, matrix, scores, tally, counts=place in over) for place in range(size))
        edges = [one.boundary_f1 for one in classes if one.counts and one.boundary_f1 is not None]
        return Verdict(
            protocol=self.protocol,
            excluded=tuple(classes[place].name for place in out),
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
        kept = counted(self._told(matrix), self.protocol, self._places_out)
        return Scores.of(kept, scored(kept, self.protocol, self._places_out)).miou

    @property
    def _places_out(self) -> list[int]:
        """Places, among the classes that are told of, of the excluded ones."""
        return [place for place, one in enumerate(self.names) if one in self.excluded]

    def _told(self, matrix: Confusion) -> Confusion:
        return matrix[np.ix_(list(self.names), list(self.names))]

    def _class(self, place: int, matrix: Confusion, scores: Scores, tally: MapCounts, *, counts: bool) -> ClassScore:
        class_id, name = list(self.names.items())[place]
        truth, drawn = int(matrix[place].sum()), int(matrix[:, place].sum())
        edge = boundary_score(tally.borders, class_id)
        figures = [part[place] for part in (scores.iou, scores.precision, scores.recall, scores.f1)]
        told = counts and truth + drawn > 0
        iou, precision, recall, f1 = figures if told else [None] * 4
        return ClassScore(
            id=class_id,
            name=name,
            counts=counts,
            iou=iou,
            precision=precision,
            recall=recall,
            f1=f1,
            boundary_f1=edge.f1 if told and _has_borders(edge, tally, truth) else None,
            truth_pixels=truth,
            map_pixels=drawn,
        )


def _has_borders(edge: BoundaryScore, tally: MapCounts, truth_pixels: int) -> bool:
    """Whether borders of a class can be right or wrong: the truth has some, or labels other classes with some."""
    return bool(edge.true or (edge.drawn and not truth_pixels and tally.borders[0].any()))
