"""Plan the windows that cover a scene, the units of work and the weights of the blend. Pure arithmetic, no input."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels, which may extend beyond the edge of a scene."""

    row: int
    """First row; rows count from top to bottom."""
    col: int
    """First column; columns count from left to right."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a window has at least one pixel, got {self.height} × {self.width}")

    @property
    def bottom(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """First column to the right of the window."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices of an array."""
        return slice(self.row, self.bottom), slice(self.col, self.right)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixel of each tile along one axis.

    Consecutive tiles share at least `overlap` pixels and the last one ends exactly at `length`:
    it is moved back, never cut, so every tile has the same size. One tile when `length <= tile`.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"need 0 <= overlap < tile, got overlap={overlap}, tile={tile}")
    if length <= tile:
        return [0]
    last = length - tile
    return [*range(0, last, tile - overlap), last]


def window_count(height: int, width: int, *, tile: int, overlap: int) -> int:
    """Number of windows of `TilePlan.of`, without making them."""
    down, across = (-(-max(length - tile, 0) // (tile - overlap)) + 1 for length in (height, width))
    return down * across


@dataclass(frozen=True, slots=True)
class TilePlan:
    """All windows of a scene: one lattice of equal squares, independent of the parts in which the scene is computed."""

    height: int
    """Rows of the scene."""
    width: int
    """Columns of the scene."""
    tile: int
    """Side of a window; may be larger than the scene."""
    overlap: int
    """Least overlap of neighbouring windows in pixels."""
    rows: tuple[int, ...]
    """First row of each row of windows."""
    cols: tuple[int, ...]
    """First column of each column of windows."""

    @classmethod
    def of(cls, height: int, width: int, *, tile: int, overlap: int) -> TilePlan:
        """The windows that cover `height` × `width` pixels."""
        down, across = starts(height, tile, overlap), starts(width, tile, overlap)
        return cls(height, width, tile, overlap, tuple(down), tuple(across))

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def window(self, down: int, across: int) -> Window:
        """The window in row `down` and column `across` of the lattice."""
        return Window(self.rows[down], self.cols[across], self.tile, self.tile)

    def overlapping(self, area: Window) -> tuple[range, range]:
        """Rows and columns of the lattice whose windows overlap `area`."""
        return _overlapping(self.rows, self.tile, area.row, area.bottom), _overlapping(
            self.cols, self.tile, area.col, area.right
        )


def _overlapping(first: tuple[int, ...], tile: int, start: int, stop: int) -> range:
    """Indices of the windows along one axis, with first pixels `first`, that overlap pixels `start` … `stop` - 1."""
    return range(bisect_right(first, start - tile), bisect_left(first, stop))


def spans(length: int, step: int) -> list[tuple[int, int]]:
    """Cut 0 … `length` into intervals (start, stop) of length `step`; the last one may be shorter."""
    if step < 1:
        raise ValueError(f"need step >= 1, got {step}")
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def blocks(height: int, width: int, *, band: int, panel: int) -> list[Window]:
    """The units of work: panels of `panel` columns from left to right, each cut into bands of `band` rows."""
    return [
        Window(top, left, bottom - top, right - left)
        for left, right in spans(width, panel)
        for top, bottom in spans(height, band)
    ]


def chains(units: Iterable[Window]) -> list[list[Window]]:
    """Group consecutive units that lie directly below each other; along such a chain no window is computed twice."""
    grouped: list[list[Window]] = []
    for unit in units:
        above = grouped[-1][-1] if grouped else None
        if above and (above.bottom, above.col, above.width) == (unit.row, unit.col, unit.width):
            grouped[-1].append(unit)
        else:
            grouped.append([unit])
    return grouped


def bounding_window(units: Sequence[Window]) -> Window:
    """The rectangle that the units of a chain cover."""
    first, last = units[0], units[-1]
    return Window(first.row, first.col, last.bottom - first.row, first.width)


def worker_share(count: int, worker: int, workers: int) -> range:
    """Indices of the units that `worker` (from 0) computes, of `count` units divided among `workers`."""
    return range(worker * count // workers, (worker + 1) * count // workers)


MIN_WEIGHT = 1e-3
"""Smallest weight of a blend. It is above 0 so that the border of a scene, where only one window lies, is not lost."""


def taper(tile: int, overlap: int) -> NDArray[np.float64]:
    """(tile,) weights along one axis of a window: sin² ramps over `overlap` pixels at both ends, 1 between, never 0."""
    edge_distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.sin(np.pi / 2 * np.minimum(edge_distance / max(overlap, 1), 1)) ** 2 if overlap else np.ones(tile)
    return np.maximum(ramp, MIN_WEIGHT)


def blend_shares(length: int, first: Sequence[int], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """(windows, tile) share of each window in the blended value of its pixels along one axis.

    It is the window's weight divided by the sum of the weights of all windows at that pixel, so that the shares at a
    pixel add up to 1. The product of the shares along both axes is the share in the plane, so that the blended sum need
    not be divided at the end.

    Args:
        length: Pixels of the axis.
        first: First pixel of each window.
        weights: (tile,) weights of a window, as of `taper`.
    """
    tile = len(weights)
    total = np.zeros(max(length, first[-1] + tile))
    for start in first:
        total[start : start + tile] += weights
    return np.stack([weights / total[start : start + tile] for start in first]).astype(np.float32)
