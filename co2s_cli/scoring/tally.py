"""Everything that is counted where map and truth are both at hand; counts of blocks and areas add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.metrics import calibration
from co2s_cli.metrics.boundary import Borders, borders
from co2s_cli.metrics.matrix import Confusion, confusion

IDS = NDArray[np.uint8]
"""(h, w) class ids; `IGNORE` where there is none."""


@dataclass(frozen=True, slots=True)
class Rules:
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
class Tally:
    """Exact counts."""

    matrix: Confusion
    """(IGNORE, IGNORE) where both have a class."""
    missing: NDArray[np.int64]
    """(IGNORE) pixels without a class on the map, by true class."""
    borders: Borders
    levels: calibration.Levels
    """Of the pixels that the map has a confidence for."""

    @classmethod
    def empty(cls) -> Tally:
        """Nothing counted."""
        return cls(
            np.zeros((IGNORE, IGNORE), np.int64),
            np.zeros(IGNORE, np.int64),
            np.zeros((4, 256), np.int64),
            np.zeros((2, calibration.LEVELS), np.int64),
        )

    @classmethod
    def of(cls, truth: IDS, predicted: IDS, sure: IDS | None, core: tuple[slice, slice], rules: Rules) -> Tally:
        """Counts in the part `core` of a block; `sure` holds stored confidences (`IGNORE`: none) of the core alone."""
        here, said = truth[core], predicted[core]
        lost = here[(here != IGNORE) & (said == IGNORE)]
        known = rules.counting[truth]
        if not rules.missing_is_wrong:
            known &= predicted != IGNORE
        return cls(
            confusion(here, said, IGNORE),
            np.bincount(lost, minlength=IGNORE).astype(np.int64),
            borders(truth, predicted, known, core, rules.tolerance),
            _levels(here, said, sure, known[core]),
        )

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.matrix + other.matrix,
            self.missing + other.missing,
            self.borders + other.borders,
            self.levels + other.levels,
        )

    @property
    def occurring(self) -> list[int]:
        """The class ids that occur, in map or truth."""
        occurs = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) + self.missing
        return [int(one) for one in np.flatnonzero(occurs)]


def _levels(truth: IDS, predicted: IDS, sure: IDS | None, known: NDArray[np.bool_]) -> calibration.Levels:
    if sure is None:
        return np.zeros((2, calibration.LEVELS), np.int64)
    counting = known & (predicted != IGNORE) & (sure != IGNORE)
    return calibration.levels(sure[counting], (truth == predicted)[counting])
