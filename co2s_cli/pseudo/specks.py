"""Mask of the pixels of a class raster whose region is large, strip by strip; a region may cover any number of strips.

Two passes over the strips. The pass upwards counts, for each region that touches the upper edge of a strip, its pixels
in this strip and below. In the pass downwards, a region that comes from above is known to be large or not, and of one
that goes on below the number of pixels there is known.

The counts of all edges of a large raster would not fit into memory. The pass upwards keeps those of one edge in
`SECTION` or more; the others are counted again, section by section, in the pass downwards.
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
"""Fewest strips of a section. A raster of one section is read twice; larger ones three times."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """The regions of the uppermost row of a strip, as runs of pixels of one region."""

    starts: NDArray[np.int32]
    """First column of each run."""
    region: NDArray[np.int32]
    """Region of each run, an index into `area`."""
    value: ClassIds
    """Class of each run."""
    area: NDArray[np.unsignedinteger]
    """Pixels of each region in this row and below, at most the size from which a region is large."""

    @classmethod
    def of(cls, root: Index, values: ClassIds, areas: Index, least: int) -> _Edge:
        """Of the regions (columns,) and classes (columns,) of a row, and the area of each region, capped at `least`."""
        starts = np.flatnonzero(np.diff(root, prepend=-1))
        present, region = np.unique(root[starts], return_inverse=True)
        area = np.minimum(areas[present], least).astype(np.min_scalar_type(least))
        return cls(starts.astype(np.int32), region.astype(np.int32), values[starts], area)

    def pixels(self, columns: int) -> tuple[ClassIds, NDArray[np.int32]]:
        """Class and region of each pixel (columns,)."""
        lengths = np.diff(self.starts, append=columns)
        return np.repeat(self.value, lengths), np.repeat(self.region, lengths)


def large(strips: int, read: Callable[[int], ClassIds], least: int) -> Iterator[tuple[ClassIds, NDArray[np.bool_]]]:
    """Each strip, top to bottom, and True where a pixel's 4-connected region has `least` pixels or more.

    `read` gives strip k (rows, columns); it is called up to three times for each and must give the same values.
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
    """The edge below each section of `side` strips, that below the first section last; None below the raster."""
    below: list[_Edge | None] = [None]
    edge: _Edge | None = None
    for index in range(strips - 1, side - 1, -1):
        edge = _Strip(read(index), edge).edge(least)
        if index % side == 0:
            below.append(edge)
    return below


def _edges(section: range, read: Callable[[int], ClassIds], least: int, below: _Edge | None) -> list[_Edge | None]:
    """The edge below each strip of a section, that below the first strip last; `below` is that below the section."""
    edges = [below]
    for index in reversed(section[1:]):
        edges.append(_Strip(read(index), edges[-1]).edge(least))
    return edges


class _Strip:
    """The regions of a strip, joined by what is known of the rows next to it.

    `below` is the edge of the strip below; `above` is the last row of the strip above and where its regions are large.
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
        """Merge components that are one region further below, and add the pixels of that region once."""
        lowest = self._component[-1]
        present, first = np.unique(region, return_index=True)
        self._root = components(len(self._root), lowest, lowest[first][region])
        self._area = np.bincount(self._root, self._area, len(self._root)).astype(np.int64)
        np.add.at(self._area, self._root[lowest[first]], below.area[present])

    def large(self, least: int) -> NDArray[np.bool_]:
        """(rows, columns) True where the whole region of a pixel has `least` pixels or more."""
        is_large = self._area >= least
        if self._above is not None:
            is_large[self._root[self._component[0][self._above[1]]]] = True
        return np.asarray(is_large[self._root[self._component[1:-1]]])

    def edge(self, least: int) -> _Edge:
        """The regions of the uppermost row, with their pixels in this strip and below."""
        return _Edge.of(self._root[self._component[1]], self._strip[0], self._area, least)
