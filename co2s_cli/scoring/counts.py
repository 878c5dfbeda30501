"""Counts of a map against its truth: confusion, borders, confidences. Counts of blocks and areas add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.scoring import calibration
from co2s_cli.scoring.boundary import Borders, borders
from co2s_cli.scoring.matrix import Confusion, confusion

IDS = NDArray[np.uint8]
"""Class ids (h, w); `IGNORE` where there is no class."""


@dataclass(frozen=True, slots=True)
class CountRules:
    """Which pixels count, and the tolerance of borders."""

    left_out: tuple[int, ...] = ()
    """Ids of classes whose true pixels do not count for borders and confidences."""
    missing_is_wrong: bool = False
    """Whether a labelled pixel without a class on the map counts as wrong; else it does not count."""
    tolerance: float = 3.0
    """Largest distance in pixels between a border pixel and its match."""

    @property
    def counting(self) -> NDArray[np.bool_]:
        """Table (256,): whether pixels of each true class count for borders and confidences."""
        table = np.ones(256, np.bool_)
        table[[IGNORE, *self.left_out]] = False
        return table


@dataclass(frozen=True, slots=True)
class MapCounts:
    """Exact counts of a map against its truth."""

    matrix: Confusion
    """(IGNORE, IGNORE) pixels where map and truth have a class."""
    missing: NDArray[np.int64]
    """(IGNORE,) labelled pixels without a class on the map, by true class."""
    borders: Borders
    levels: calibration.Levels
    """Over the pixels that have a confidence on the map."""

    @classmethod
    def empty(cls) -> MapCounts:
        """Counts that are all 0."""
        return cls(
            np.zeros((IGNORE, IGNORE), np.int64),
            np.zeros(IGNORE, np.int64),
            np.zeros((4, 256), np.int64),
            np.zeros((2, calibration.LEVELS), np.int64),
        )

    @classmethod
    def of(
        cls, truth: IDS, predicted: IDS, confidence: IDS | None, core: tuple[slice, slice], rules: CountRules
    ) -> MapCounts:
        """Counts inside `core` of a block; `confidence` has the shape of `core`, with `IGNORE` where there is none."""
        true_ids, map_ids = truth[core], predicted[core]
        missing = true_ids[(true_ids != IGNORE) & (map_ids == IGNORE)]
        known = rules.counting[truth]
        if not rules.missing_is_wrong:
            known &= predicted != IGNORE
        return cls(
            confusion(true_ids, map_ids, IGNORE),
            np.bincount(missing, minlength=IGNORE).astype(np.int64),
            borders(truth, predicted, known, core, rules.tolerance),
            _levels(true_ids, map_ids, confidence, known[core]),
        )

    def plus(self, other: MapCounts) -> MapCounts:
        """The sum of two counts."""
        return MapCounts(
            self.matrix + other.matrix,
            self.missing + other.missing,
            self.borders + other.borders,
            self.levels + other.levels,
        )

    @property
    def occurring(self) -> list[int]:
        """Ids of the classes that occur on the map or in the truth."""
        occurs = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) + self.missing
        return [int(class_id) for class_id in np.flatnonzero(occurs)]


def _levels(truth: IDS, predicted: IDS, confidence: IDS | None, known: NDArray[np.bool_]) -> calibration.Levels:
    if confidence is None:
        return np.zeros((2, calibration.LEVELS), np.int64)
    counting = known & (predicted != IGNORE) & (confidence != IGNORE)
    return calibration.levels(confidence[counting], (truth == predicted)[counting])
