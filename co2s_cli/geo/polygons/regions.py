"""Find the 4-connected regions of a class raster, block by block: runs of equal pixels, joined by union-find."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def bottom(self) -> Index:
        """Last row of each region."""
        last = np.empty(self.count, np.int64)
        last[self.label] = self.starts  # ascending, so that the last run stays
        return last // self.columns


def find(rows: Pixels) -> Regions:
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
