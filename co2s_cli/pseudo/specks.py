"""Which pixels of a class raster lie in large regions, told strip by strip; regions reach over any number of strips.

Two passes over the strips. From the bottom up, the regions that touch the upper edge of each strip are given the area
that they have in this strip and below. From the top down, a strip then knows all it needs: of what comes from above it
is known whether it is large, of what goes on below how large that part is.

What is known of every edge of a large raster would fill the memory. The pass upwards keeps one edge of many strips, and
those in between are found again when the pass downwards comes to them.
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
"""Fewest strips whose edges are kept together: so few take little memory, and no third look."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """The uppermost row of a strip as its regions see it, by runs of pixels of one region."""

    starts: NDArray[np.int32]
    """First column of each run."""
    region: NDArray[np.int32]
    """Region of each run, 0 … n - 1."""
    value: ClassIds
    """Class of each run."""
    area: NDArray[np.unsignedinteger]
    """Pixels of each region from this row on downwards, cut off where it is large."""

    @classmethod
    def of(cls, root: Index, values: ClassIds, areas: Index, least: int) -> _Edge:
        """From the region of each pixel (columns,), its class, and the area of each region; from `least` on large."""
        starts = np.flatnonzero(np.diff(root, prepend=-1))
        known, region = np.unique(root[starts], return_inverse=True)
        area = np.minimum(areas[known], least).astype(np.min_scalar_type(least))
        return cls(starts.astype(np.int32), region.astype(np.int32), values[starts], area)

    def pixels(self, columns: int) -> tuple[ClassIds, NDArray[np.int32]]:
        """Class and region of each pixel (columns,)."""
        lengths = np.diff(self.starts, append=columns)
        return np.repeat(self.value, lengths), np.repeat(self.region, lengths)


def large(strips: int, read: Callable[[int], ClassIds], least: int) -> Iterator[tuple[ClassIds, NDArray[np.bool_]]]:
    """Each strip, top to bottom, and True where a pixel's 4-connected region has `least` pixels or more.

    `read` gives strip k (rows, columns), the same one each time; it is asked up to three times.
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
    """What lies below each section of `side` strips, that of the first one last."""
    below: list[_Edge | None] = [None]
    edge: _Edge | None = None
    for index in range(strips - 1, side - 1, -1):
        edge = _Strip(read(index), edge).edge(least)
        if index % side == 0:
            below.append(edge)
    return below


def _edges(section: range, read: Callable[[int], ClassIds], least: int, below: _Edge | None) -> list[_Edge | None]:
    """What lies below each strip of a section, that of the first one last; `below`: what lies below the section."""
    edges = [below]
    for index in reversed(section[1:]):
        edges.append(_Strip(read(index), edges[-1]).edge(least))
    return edges


class _Strip:
    """The regions of a strip, with what is known of the rows right above and below it."""

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
        found = find(stacked)
        self._component = found.at(np.arange(stacked.size)).reshape(stacked.shape)
        self._root = np.arange(found.count)
        self._area = np.bincount(self._component[1:-1].ravel(), minlength=found.count)
        if below is not None:
            self._join(below, region)

    def _join(self, below: _Edge, region: NDArray[np.int32]) -> None:
        """Components that are one further below become one, and get what lies there, once."""
        lowest = self._component[-1]
        known, first = np.unique(region, return_index=True)
        self._root = components(len(self._root), lowest, lowest[first][region])
        self._area = np.bincount(self._root, self._area, len(self._root)).astype(np.int64)
        np.add.at(self._area, self._root[lowest[first]], below.area[known])

    def large(self, least: int) -> NDArray[np.bool_]:
        """(rows, columns) True where a region is large, as a whole."""
        sized = self._area >= least
        if self._above is not None:
            sized[self._root[self._component[0][self._above[1]]]] = True
        return np.asarray(sized[self._root[self._component[1:-1]]])

    def edge(self, least: int) -> _Edge:
        """What the strip above is to know."""
        return _Edge.of(self._root[self._component[1]], self._strip[0], self._area, least)
