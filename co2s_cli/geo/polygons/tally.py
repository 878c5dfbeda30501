"""Count how often each value of a byte raster occurs in each region; mean and low quantile from the counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index

LEVELS = 256


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of pairs of a region and a value, ascending, only those that occur."""

    pairs: Index
    """region · 256 + value."""
    counts: Index

    @classmethod
    def of(cls, region: Index, values: NDArray[np.uint8]) -> Self:
        """Count pixels, given the region and the value of each."""
        return cls(*np.unique(region * LEVELS + values, return_counts=True))

    @property
    def region(self) -> Index:
        """Region of each pair."""
        return self.pairs // LEVELS

    def renumbered(self, number: Index) -> Tally:
        """With region r called number[r]; regions that get -1 leave, those that get the same number become one."""
        region = number[self.region]
        kept = region >= 0
        pairs, place = np.unique(region[kept] * LEVELS + self.pairs[kept] % LEVELS, return_inverse=True)
        return Tally(pairs, np.bincount(place, self.counts[kept], len(pairs)).astype(np.int64))

    def plus(self, other: Tally, *, shift: int) -> Tally:
        """Together with another one, whose regions come after `shift` of ours."""
        pairs = np.concatenate([self.pairs, other.pairs + shift * LEVELS])
        return Tally(pairs, np.concatenate([self.counts, other.counts]))

    def mean(self, regions: int) -> NDArray[np.float64]:
        """Mean value in each region; NaN where nothing was counted."""
        totals = self._totals(regions)
        sums = np.bincount(self.region, self.counts * (self.pairs % LEVELS), regions)
        return np.asarray(np.divide(sums, totals, out=np.full(regions, np.nan), where=totals > 0))

    def quantile(self, regions: int, share: float) -> NDArray[np.float64]:
        """The smallest value that `share` of a region's pixels do not exceed; NaN where nothing was counted."""
        totals = self._totals(regions)
        reached = np.cumsum(self.counts) - np.cumsum(totals)[self.region] + totals[self.region]
        enough = np.flatnonzero(reached >= share * totals[self.region])
        region, first = np.unique(self.region[enough], return_index=True)
        result = np.full(regions, np.nan)
        result[region] = self.pairs[enough[first]] % LEVELS
        return result

    def _totals(self, regions: int) -> Index:
        return np.bincount(self.region, self.counts, regions).astype(np.int64)


EMPTY = Tally(np.zeros(0, np.int64), np.zeros(0, np.int64))
