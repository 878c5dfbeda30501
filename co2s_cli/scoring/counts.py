"""Everything that is counted where map and truth are both at hand; counts of blocks and areas add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.scoring import calibration
from co2s_cli.scoring.boundary import Borders, borders
from co2s_cli.scoring.matrix import Confusion, confusion

IDS = NDArray[np.uint8]
"""(h, w) class ids; `IGNORE` where there is none."""


@dataclass(frozen=True, slots=True)
class CountRules:
    """What counts, and how near a border has to be."""

    left_out: tuple[int, ...] = ()
    """Classes whose true pixels are not looked at for borders and confidence."""
    missing_is_wrong: bool = False
    """Whether a pixel without a class on the map is a wrong one; else it is left out."""
    tolerance: float = 3.0
    """Pixels between a border and the one that matches it."""

    @property
    def counting(self) -> NDArray[np.bool_]:
        """(256) whether pixels of each true class are looked at for borders and confidence."""
        table = np.ones(256, np.bool_)
        table[[IGNORE, *self.left_out]] = False
        return table


@dataclass(frozen=True, slots=True)
class MapCounts:
    """Exact counts."""

    matrix: Confusion
    """(IGNORE, IGNORE) where both have a class."""
    missing: NDArray[np.int64]
    """(IGNORE) pixels without a class on the map, by true class."""
    borders: Borders
    levels: calibration.Levels
    """Of the pixels that the map has a confidence for."""

    @classmethod
    def empty(cls) -> MapCounts:
        """Nothing counted."""
        return cls(
            np.zeros((IGNORE, IGNORE), np.int64),
            np.zeros(IGNORE, np.int64),
            np.zeros((4, 256), np.int64),
            np.zeros((2, calibration.LEVELS), np.int64),
        )

    @classmethod
    def of(
        cls, truth: IDS, predicted: IDS, sure: IDS | None, core: tuple[slice, slice], rules: CountRules
    ) -> MapCounts:
        """Counts in the part `core` of a block; `sure` holds stored confidences (`IGNORE`: none) of the core alone."""
        true_ids, map_ids = truth[core], predicted[core]
        missing = true_ids[(true_ids != IGNORE) & (map_ids == IGNORE)]
        known = rules.counting[truth]
        if not rules.missing_is_wrong:
            known &= predicted != IGNORE
        return cls(
            confusion(true_ids, map_ids, IGNORE),
            np.bincount(missing, minlength=IGNORE).astype(np.int64),
            borders(truth, predicted, known, core, rules.tolerance),
            _levels(true_ids, map_ids, sure, known[core]),
        )

    def plus(self, other: MapCounts) -> MapCounts:
        """Both together."""
        return MapCounts(
            self.matrix + other.matrix,
            self.missing + other.missing,
            self.borders + other.borders,
            self.levels + other.levels,
        )

    @property
    def occurring(self) -> list[int]:
        """The class ids that occur, in map or truth."""
        occurs = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) + self.missing
        return [int(class_id) for class_id in np.flatnonzero(occurs)]


def _levels(truth: IDS, predicted: IDS, sure: IDS | None, known: NDArray[np.bool_]) -> calibration.Levels:
    if sure is None:
        return np.zeros((2, calibration.LEVELS), np.int64)
    counting = known & (predicted != IGNORE) & (sure != IGNORE)
    return calibration.levels(sure[counting], (truth == predicted)[counting])
