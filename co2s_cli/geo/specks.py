"""Which pixels of a class raster lie in large regions, told strip by strip; regions reach over any number of strips.

Two passes over the strips. From the bottom up, the regions that touch the upper edge of each strip are given the area
that they have in this strip and below. From the top down, a strip then knows all it needs: of what comes from above it
is known whether it is large, of what goes on below how large that part is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.chains import Index
from co2s_cli.geo.regions import OUTSIDE, components, find

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Edge:
    """The uppermost row of a strip as its regions see it, by runs of pixels of one region."""

    starts: Index
    """First column of each run."""
    region: Index
    """Region of each run, 0 … n - 1."""
    value: NDArray[np.uint16]
    """Class of each run."""
    area: Index
    """Pixels of each region from this row on downwards, cut off where it is large."""

    @classmethod
    def of(cls, root: Index, values: Labels, areas: Index) -> _Edge:
        """From the region of each pixel (columns,), its class, and the area of each region."""
        starts = np.flatnonzero(np.diff(root, prepend=-1))
        known, region = np.unique(root[starts], return_inverse=True)
        return cls(starts, region, values[starts].astype(np.uint16), areas[known])

    def pixels(self, columns: int) -> tuple[NDArray[np.uint16], Index]:
        """Class and region of each pixel (columns,)."""
        lengths = np.diff(self.starts, append=columns)
        return np.repeat(self.value, lengths), np.repeat(self.region, lengths)


def large(strips: int, read: Callable[[int], Labels], least: int) -> Iterator[tuple[Labels, NDArray[np.bool_]]]:
    """Each strip, top to bottom, and True where a pixel's 4-connected region has `least` pixels or more.

    `read` gives strip k (rows, columns), the same one each time; it is asked twice.
    """
    edges = _edges(strips, read, least)
    above: tuple[Labels, NDArray[np.bool_]] | None = None
    for index in range(strips):
        strip = read(index)
        mask = _Strip(strip, edges.pop(), above).large(least)
        yield strip, mask
        above = strip[-1], mask[-1]


def _edges(strips: int, read: Callable[[int], Labels], least: int) -> list[_Edge | None]:
    """What lies below each strip, that of the first one last."""
    edges: list[_Edge | None] = [None]
    for index in range(strips - 1, 0, -1):
        edges.append(_Strip(read(index), edges[-1]).edge(least))
    return edges


class _Strip:
    """The regions of a strip, with what is known of the rows right above and below it."""

    def __init__(
        self, strip: Labels, below: _Edge | None, above: tuple[Labels, NDArray[np.bool_]] | None = None
    ) -> None:
        self._strip, self._above = strip, above
        rows, columns = strip.shape
        stacked = np.full((rows + 2, columns), OUTSIDE, np.uint16)
        stacked[1:-1] = strip
        if above is not None:
            stacked[0] = above[0]
        region = np.zeros(columns, np.int64)
        if below is not None:
            stacked[-1], region = below.pixels(columns)
        found = find(stacked)
        self._component = found.at(np.arange(stacked.size)).reshape(stacked.shape)
        self._root = np.arange(found.count)
        self._area = np.bincount(self._component[1:-1].ravel(), minlength=found.count)
        if below is not None:
            self._join(below, region)

    def _join(self, below: _Edge, region: Index) -> None:
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
        return _Edge.of(self._root[self._component[1]], self._strip[0], np.minimum(self._area, least))
