"""Find the pixels of a class raster whose region is large, strip by strip; a region may cover any number of strips.

There are two passes over the strips. The upward pass counts, for each region that touches the upper edge of a strip,
the pixels of the region in this strip and below. In the downward pass it is then known of a region that continues from
above whether it is large, and of a region that continues below how many pixels it has there.

The counts of all edges of a large raster would not fit into memory. The upward pass keeps those of one edge in
`SECTION` or more; the downward pass computes the others again, section by section.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.regions import OUTSIDE, components, find

ClassIds = NDArray[np.uint8]

SECTION = 64
"""Least number of strips of a section. A raster of one section is read twice, a larger one three times."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """The regions of the top row of a strip, stored as runs of adjacent pixels of one region."""

    starts: NDArray[np.int32]
    """(runs) first column."""
    region: NDArray[np.int32]
    """(runs) region, an index into `area`."""
    value: ClassIds
    """(runs) class id."""
    area: NDArray[np.unsignedinteger]
    """(regions) number of pixels in this row and below, capped at the size from which a region is large."""

    @classmethod
    def of(cls, root: Index, values: ClassIds, areas: Index, least: int) -> _Edge:
        """The edge of a row with regions `root` (columns,) and classes `values` (columns,); `areas` (regions,)."""
        starts = np.flatnonzero(np.diff(root, prepend=-1))
        present, region = np.unique(root[starts], return_inverse=True)
        area = np.minimum(areas[present], least).astype(np.min_scalar_type(least))
        return cls(starts.astype(np.int32), region.astype(np.int32), values[starts], area)

    def pixels(self, columns: int) -> tuple[ClassIds, NDArray[np.int32]]:
        """Class and region (columns,) of each pixel of the row."""
        lengths = np.diff(self.starts, append=columns)
        return np.repeat(self.value, lengths), np.repeat(self.region, lengths)


def large_regions(
    strips: int, read: Callable[[int], ClassIds], least: int
) -> Iterator[tuple[ClassIds, NDArray[np.bool_]]]:
    """Each strip from top to bottom, and True where the 4-connected region of a pixel has at least `least` pixels.

    Args:
        strips: Number of strips.
        read: Returns strip k (rows, columns); called up to three times for each strip, with the same result each time.
        least: Number of pixels from which a region is large.
    """
    side = max(SECTION, math.isqrt(strips))
    below = _below_sections(strips, side, read, least)
    above: tuple[ClassIds, NDArray[np.bool_]] | None = None
    for top in range(0, strips, side):
        section = range(top, min(top + side, strips))
        edges = _edges(section, read, least, below.pop())
        for index in section:
            strip = read(index)
            mask = _Strip(strip, edges.pop(), above).large(least)
            yield strip, mask
            above = strip[-1], mask[-1]


def _below_sections(strips: int, side: int, read: Callable[[int], ClassIds], least: int) -> list[_Edge | None]:
    """The edges below the sections of `side` strips, from the lowest section up; None below the last strip."""
    below: list[_Edge | None] = [None]
    edge: _Edge | None = None
    for index in range(strips - 1, side - 1, -1):
        edge = _Strip(read(index), edge).edge(least)
        if index % side == 0:
            below.append(edge)
    return below


def _edges(section: range, read: Callable[[int], ClassIds], least: int, below: _Edge | None) -> list[_Edge | None]:
    """The edges below the strips of a section, from the lowest strip up; `below` is the edge below the section."""
    edges = [below]
    for index in reversed(section[1:]):
        edges.append(_Strip(read(index), edges[-1]).edge(least))
    return edges


class _Strip:
    """The regions of a strip, joined across the rows next to it.

    `below` is the edge of the strip below. `above` is the last row of the strip above, and True (columns,) where the
    regions in that row are large.
    """

    def __init__(
        self, strip: ClassIds, below: _Edge | None, above: tuple[ClassIds, NDArray[np.bool_]] | None = None
    ) -> None:
        self._strip, self._above = strip, above
        rows, columns = strip.shape
        stacked = np.full((rows + 2, columns), OUTSIDE, np.uint16)
        stacked[1:-1] = strip
        if above is not None:
            stacked[0] = above[0]
        region = np.zeros(columns, np.int32)
        if below is not None:
            stacked[-1], region = below.pixels(columns)
        regions = find(stacked)
        self._component = regions.at(np.arange(stacked.size)).reshape(stacked.shape)
        self._root = np.arange(regions.count)
        self._area = np.bincount(self._component[1:-1].ravel(), minlength=regions.count)
        if below is not None:
            self._join(below, region)

    def _join(self, below: _Edge, region: NDArray[np.int32]) -> None:
        """Merge components that are connected below the strip, and add the pixels of each such region once."""
        lowest = self._component[-1]
        present, first = np.unique(region, return_index=True)
        self._root = components(len(self._root), lowest, lowest[first][region])
        self._area = np.bincount(self._root, self._area, len(self._root)).astype(np.int64)
        np.add.at(self._area, self._root[lowest[first]], below.area[present])

    def large(self, least: int) -> NDArray[np.bool_]:
        """(rows, columns) True where the whole region of a pixel has at least `least` pixels."""
        is_large = self._area >= least
        if self._above is not None:
            is_large[self._root[self._component[0][self._above[1]]]] = True
        return np.asarray(is_large[self._root[self._component[1:-1]]])

    def edge(self, least: int) -> _Edge:
        """The regions of the top row, with their number of pixels in this strip and below."""
        return _Edge.of(self._root[self._component[1]], self._strip[0], self._area, least)
