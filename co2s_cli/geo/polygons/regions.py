"""Find the 4-connected regions of rows of a class raster, and count the values of another raster in each region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index

OUTSIDE = 256
"""Value of the pixels around the raster; 255 is nodata; both are no class."""

Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of some rows of pixels, numbered in raster order of their first pixel."""

    columns: int
    """Pixels of a row."""
    starts: Index
    """First pixel of each run of equal pixels, as a position in the raveled rows."""
    run_of: NDArray[np.int32]
    """(rows · columns) the run of each pixel."""
    label: Index
    """Region of each run."""
    first: Index
    """First run of each region."""
    values: NDArray[np.uint16]
    """Value of each region."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.first)

    def at(self, pixels: Index) -> Index:
        """Regions of pixels given by their position in the raveled rows."""
        return self.label[self.run_of[pixels]]

    def in_row(self, row: int) -> Index:
        """Regions of the runs of a row, from left to right."""
        begin, end = np.searchsorted(self.starts, [row * self.columns, (row + 1) * self.columns])
        return self.label[begin:end]

    def in_column(self, column: int) -> Index:
        """Regions of the runs of a column, from top to bottom."""
        regions = self.at(np.arange(column, self.run_of.size, self.columns))
        return np.asarray(regions[np.diff(regions, prepend=-1) != 0])

    @property
    def bottom(self) -> Index:
        """Last row of each region."""
        last = np.empty(self.count, np.int64)
        last[self.label] = self.starts  # ascending, so that the last run stays
        return last // self.columns


def find(rows: NDArray[np.unsignedinteger]) -> Regions:
    """The regions of `rows` (rows, columns)."""
    breaks = np.ones(rows.shape, bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=breaks[:, 1:])
    run_of = np.cumsum(breaks.ravel(), dtype=np.int32)
    run_of -= 1
    starts = np.flatnonzero(breaks)
    # two runs of consecutive rows touch from the later of their two starts on
    touching = breaks[1:] | breaks[:-1]
    touching &= rows[1:] == rows[:-1]
    above = np.flatnonzero(touching)
    roots = components(len(starts), run_of[above], run_of[above + rows.shape[1]])
    first = np.flatnonzero(roots == np.arange(len(roots)))
    number = np.empty(len(roots), np.int64)
    number[first] = np.arange(len(first))
    return Regions(rows.shape[1], starts, run_of, number[roots], first, rows.ravel()[starts[first]])


def components(count: int, one: NDArray[np.integer], other: NDArray[np.integer]) -> Index:
    """The smallest element of the component of each of `count` elements, joined by the pairs (one, other)."""
    root = np.arange(count)
    while len(one):
        a, b = root[one], root[other]
        apart = np.flatnonzero(a != b)
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        # of several claims on one root the last is kept; pointing to a smaller one, none can close a circle
        root[np.maximum(a, b)] = np.minimum(a, b)
        root = _flatten(root)
    return root


def _flatten(root: Index) -> Index:
    """Let every element point at the end of its way."""
    active = np.flatnonzero(root[root] != root)
    while len(active):
        root[active] = root[root[active]]
        active = active[root[root[active]] != root[active]]
    return root


LEVELS = 256


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Counts of pairs of a region and a value, ascending, only those that occur."""

    pairs: Index
    """region · 256 + value."""
    counts: Index

    @classmethod
    def of(cls, region: Index, values: NDArray[np.uint8]) -> Self:
        """Count pixels, given the region and the value of each."""
        return cls(*np.unique(region * LEVELS + values, return_counts=True))

    @classmethod
    def none(cls) -> Self:
        """No pixel counted."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @property
    def region(self) -> Index:
        """Region of each pair."""
        return self.pairs // LEVELS

    def renumbered(self, number: Index) -> ValueCounts:
        """With region r called number[r]; regions that get -1 leave, those that get the same number become one."""
        region = number[self.region]
        kept = region >= 0
        pairs, place = np.unique(region[kept] * LEVELS + self.pairs[kept] % LEVELS, return_inverse=True)
        return ValueCounts(pairs, np.bincount(place, self.counts[kept], len(pairs)).astype(np.int64))

    def plus(self, other: ValueCounts, *, shift: int) -> ValueCounts:
        """Together with another one, whose regions come after `shift` of ours."""
        pairs = np.concatenate([self.pairs, other.pairs + shift * LEVELS])
        return ValueCounts(pairs, np.concatenate([self.counts, other.counts]))

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
