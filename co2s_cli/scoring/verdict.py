"""Scores of a map, computed from its counts by a protocol."""

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
    """Scores of one class, in [0, 1]; None if it does not count, or occurs neither in the truth nor on the map."""

    id: int
    name: str
    counts: bool
    """Whether the means include this class."""
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    boundary_f1: float | None
    """None if neither map nor truth has a border of the class, and if the truth has pixels of it but no border: label
    polygons that touch no other class do not show where its borders are."""
    truth_pixels: int
    """Pixels of the class in the truth, among those that count."""
    map_pixels: int
    """Pixels of the class on the map, among those that count."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All scores of a map; shares in [0, 1]."""

    protocol: Protocol
    excluded: tuple[str, ...]
    """Names of the classes that the protocol excludes."""
    accuracy: float
    """Share of the pixels with the right class."""
    kappa: float
    miou: float
    mf1: float
    boundary_f1: float | None
    """Mean over the classes that count and have a boundary score."""
    tolerance: float
    """Largest distance in pixels between a border pixel and its match."""
    pixels: int
    """Number of pixels that count."""
    missing: int
    """Labelled pixels without a class on the map."""
    missing_share: float
    """`missing` as a share of the labelled pixels that the protocol does not mask."""
    missing_is_wrong: bool
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Pixels by true class (row) and class on the map (column)."""
    reliability: Reliability | None


@dataclass(frozen=True, slots=True)
class Judge:
    """A protocol with the classes to report."""

    protocol: Protocol
    names: Mapping[int, str]
    """Names of the classes to report, by the id in the counts."""
    excluded: tuple[int, ...] = ()
    """Ids of the classes that the protocol excludes."""
    missing_is_wrong: bool = False
    """Whether a labelled pixel without a class on the map counts as wrong; else it does not count."""

    def verdict(self, tally: MapCounts, tolerance: float, reliability: Reliability | None) -> Verdict:
        """All scores from the counts `tally`, whose borders were matched within `tolerance` pixels."""
        size, excluded = len(self.names), self._excluded_rows
        matrix = counted(self._reported(tally.matrix), self.protocol, excluded)
        missing = tally.missing[list(self.names)]
        if self.protocol in MASKING:
            missing[excluded] = 0
        missing_pixels, mapped_pixels = int(missing.sum()), int(matrix.sum())
        if self.missing_is_wrong:
            matrix = with_missing(matrix, missing)
        over = [row for row in scored(matrix, self.protocol, excluded) if row < size]
        scores = Scores.of(matrix, over)
        classes = tuple(self._class(row, matrix, scores, tally, counts=row in over) for row in range(size))
        boundary_f1 = [score.boundary_f1 for score in classes if score.counts and score.boundary_f1 is not None]
        return Verdict(
            protocol=self.protocol,
            excluded=tuple(classes[row].name for row in excluded),
            accuracy=scores.accuracy,
            kappa=scores.kappa,
            miou=scores.miou,
            mf1=scores.mf1,
            boundary_f1=float(np.mean(boundary_f1)) if boundary_f1 else None,
            tolerance=tolerance,
            pixels=scores.pixels,
            missing=missing_pixels,
            missing_share=missing_pixels / max(missing_pixels + mapped_pixels, 1),
            missing_is_wrong=self.missing_is_wrong,
            classes=classes,
            confusion=tuple(tuple(row) for row in matrix[:size].tolist()),
            reliability=reliability,
        )

    def miou(self, matrix: Confusion) -> float:
        """The mean IoU by the protocol, from a confusion matrix alone."""
        counting = counted(self._reported(matrix), self.protocol, self._excluded_rows)
        return Scores.of(counting, scored(counting, self.protocol, self._excluded_rows)).miou

    @property
    def _excluded_rows(self) -> list[int]:
        """Rows of the excluded classes in a matrix of the reported classes."""
        return [row for row, class_id in enumerate(self.names) if class_id in self.excluded]

    def _reported(self, matrix: Confusion) -> Confusion:
        """The rows and columns of the reported classes."""
        return matrix[np.ix_(list(self.names), list(self.names))]

    def _class(self, row: int, matrix: Confusion, scores: Scores, tally: MapCounts, *, counts: bool) -> ClassScore:
        class_id, name = list(self.names.items())[row]
        truth_pixels, map_pixels = int(matrix[row].sum()), int(matrix[:, row].sum())
        boundary = boundary_score(tally.borders, class_id)
        figures = [by_class[row] for by_class in (scores.iou, scores.precision, scores.recall, scores.f1)]
        has_scores = counts and truth_pixels + map_pixels > 0
        iou, precision, recall, f1 = figures if has_scores else [None] * 4
        return ClassScore(
            id=class_id,
            name=name,
            counts=counts,
            iou=iou,
            precision=precision,
            recall=recall,
            f1=f1,
            boundary_f1=boundary.f1 if has_scores and _has_borders(boundary, tally, truth_pixels) else None,
            truth_pixels=truth_pixels,
            map_pixels=map_pixels,
        )


def _has_borders(boundary: BoundaryScore, tally: MapCounts, truth_pixels: int) -> bool:
    """Whether borders of a class can be scored: the truth has some.

    A class that is only on the map can be scored too, if the truth has borders of other classes.
    """
    return bool(boundary.true or (boundary.drawn and not truth_pixels and tally.borders[0].any()))
