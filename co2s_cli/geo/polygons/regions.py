"""Find the 4-connected regions of rows of a class raster, and count the values of another raster in each region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index

OUTSIDE = 256
"""Value of pixels beyond the raster's edge. Like 255 (nodata), it is no class."""

Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Regions:
    """4-connected regions of equal pixels in some rows, numbered in raster order of their first pixel."""

    columns: int
    """Number of pixels in a row."""
    starts: Index
    """(runs) first pixel of each run of equal pixels, as a position in the raveled rows."""
    run_of: NDArray[np.int32]
    """(rows · columns) run of each pixel."""
    label: Index
    """(runs) region of each run."""
    first: Index
    """(regions) first run of each region."""
    values: NDArray[np.uint16]
    """(regions) value of the pixels of each region."""

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.first)

    def at(self, pixels: Index) -> Index:
        """Region of each of `pixels`, which are positions in the raveled rows."""
        return self.label[self.run_of[pixels]]

    def in_row(self, row: int) -> Index:
        """Region of each run of equal pixels in a row, from left to right."""
        begin, end = np.searchsorted(self.starts, [row * self.columns, (row + 1) * self.columns])
        return self.label[begin:end]

    def in_column(self, column: int) -> Index:
        """Region of each run of equal pixels in a column, from top to bottom."""
        regions = self.at(np.arange(column, self.run_of.size, self.columns))
        return np.asarray(regions[np.diff(regions, prepend=-1) != 0])

    @property
    def bottom(self) -> Index:
        """(regions) last row of each region."""
        last_start = np.empty(self.count, np.int64)
        last_start[self.label] = self.starts  # starts ascend, so that each region keeps that of its last run
        return last_start // self.columns


def find(rows: NDArray[np.unsignedinteger]) -> Regions:
    """The regions of `rows` (rows, columns)."""
    is_start = np.ones(rows.shape, bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=is_start[:, 1:])
    run_of = np.cumsum(is_start.ravel(), dtype=np.int32)
    run_of -= 1
    starts = np.flatnonzero(is_start)
    # two touching runs in consecutive rows are joined once: in the column where the later of the two starts
    touching = is_start[1:] | is_start[:-1]
    touching &= rows[1:] == rows[:-1]
    above = np.flatnonzero(touching)
    roots = components(len(starts), run_of[above], run_of[above + rows.shape[1]])
    first = np.flatnonzero(roots == np.arange(len(roots)))
    number = np.empty(len(roots), np.int64)
    number[first] = np.arange(len(first))
    return Regions(rows.shape[1], starts, run_of, number[roots], first, rows.ravel()[starts[first]])


def components(count: int, a: NDArray[np.integer], b: NDArray[np.integer]) -> Index:
    """(count) smallest element of each element's connected component; (a[i], b[i]) are the edges of the graph."""
    root = np.arange(count)
    while len(a):
        root_a, root_b = root[a], root[b]
        apart = np.flatnonzero(root_a != root_b)
        a, b, root_a, root_b = a[apart], b[apart], root_a[apart], root_b[apart]
        # where several edges set the same root, the last one wins and the others are tried again in the next round;
        # roots point only to smaller ones, so that no cycle can arise
        root[np.maximum(root_a, root_b)] = np.minimum(root_a, root_b)
        root = _flatten(root)
    return root


def _flatten(root: Index) -> Index:
    """Let every element point directly at the last element of its chain of pointers."""
    active = np.flatnonzero(root[root] != root)
    while len(active):
        root[active] = root[root[active]]
        active = active[root[root[active]] != root[active]]
    return root


LEVELS = 256
"""Number of different values that a byte can have."""


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """A sparse histogram of byte values for each region: only pairs of region and value that occur."""

    pairs: Index
    """(pairs) region · 256 + value, ascending."""
    counts: Index
    """(pairs) number of pixels of that region with that value."""

    @classmethod
    def of(cls, region: Index, values: NDArray[np.uint8]) -> Self:
        """Histogram of pixels, given the region and the value of each pixel."""
        return cls(*np.unique(region * LEVELS + values, return_counts=True))

    @classmethod
    def none(cls) -> Self:
        """The empty histogram."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @property
    def region(self) -> Index:
        """Region of each pair."""
        return self.pairs // LEVELS

    def renumbered(self, number: Index) -> ValueCounts:
        """With region r renamed number[r]; -1 drops a region, and regions of the same number are added up."""
        region = number[self.region]
        kept = region >= 0
        pairs, pair_index = np.unique(region[kept] * LEVELS + self.pairs[kept] % LEVELS, return_inverse=True)
        return ValueCounts(pairs, np.bincount(pair_index, self.counts[kept], len(pairs)).astype(np.int64))

    def plus(self, other: ValueCounts, *, shift: int) -> ValueCounts:
        """This histogram and `other`, whose region numbers are raised by `shift`, the number of regions of this one."""
        pairs = np.concatenate([self.pairs, other.pairs + shift * LEVELS])
        return ValueCounts(pairs, np.concatenate([self.counts, other.counts]))

    def mean(self, regions: int) -> NDArray[np.float64]:
        """(regions) mean value in each region; NaN where no pixel was counted."""
        totals = self._totals(regions)
        sums = np.bincount(self.region, self.counts * (self.pairs % LEVELS), regions)
        return np.asarray(np.divide(sums, totals, out=np.full(regions, np.nan), where=totals > 0))

    def quantile(self, regions: int, share: float) -> NDArray[np.float64]:
        """(regions) smallest value that at least `share` of a region's pixels do not exceed; NaN without pixels."""
        totals = self._totals(regions)
        cumulative = np.cumsum(self.counts) - np.cumsum(totals)[self.region] + totals[self.region]
        enough = np.flatnonzero(cumulative >= share * totals[self.region])
        region, first = np.unique(self.region[enough], return_index=True)
        result = np.full(regions, np.nan)
        result[region] = self.pairs[enough[first]] % LEVELS
        return result

    def _totals(self, regions: int) -> Index:
        return np.bincount(self.region, self.counts, regions).astype(np.int64)
