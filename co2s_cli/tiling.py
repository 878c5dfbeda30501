"""Plan the windows that cover a scene, the units of work and the weights of the blend. Pure; reads nothing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: rows top to bottom, columns left to right; may reach over a scene's edge."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a window has pixels, got {self.height} × {self.width}")

    @property
    def bottom(self) -> int:
        """First row below."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """First column to the right."""
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
    """All windows of a scene: one lattice of equal squares, the same whatever is later computed of it, and where."""

    height: int
    """Rows of the scene."""
    width: int
    """Columns of the scene."""
    tile: int
    """Side of a window; larger than the scene where that is small."""
    overlap: int
    """Pixels that neighbouring windows share at least."""
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

    def meeting(self, area: Window) -> tuple[range, range]:
        """Rows and columns of the lattice whose windows share a pixel with `area`."""
        return _meeting(self.rows, self.tile, area.row, area.bottom), _meeting(
            self.cols, self.tile, area.col, area.right
        )


def _meeting(first: tuple[int, ...], tile: int, start: int, stop: int) -> range:
    return range(bisect_right(first, start - tile), bisect_left(first, stop))


def spans(length: int, step: int) -> list[tuple[int, int]]:
    """Cut 0 … `length` into pieces (start, stop) of `step`; the last one takes what is left."""
    if step < 1:
        raise ValueError(f"need step >= 1, got {step}")
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def blocks(height: int, width: int, *, band: int, panel: int) -> list[Window]:
    """The units of work: column panels, each cut into row bands from top to bottom, one panel after the other."""
    return [
        Window(top, left, bottom - top, right - left)
        for left, right in spans(width, panel)
        for top, bottom in spans(height, band)
    ]


def chains(units: Iterable[Window]) -> list[list[Window]]:
    """Group units that stand right below one another: along a chain no window is computed twice."""
    found: list[list[Window]] = []
    for unit in units:
        above = found[-1][-1] if found else None
        if above and (above.bottom, above.col, above.width) == (unit.row, unit.col, unit.width):
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


def around(units: Sequence[Window]) -> Window:
    """The rectangle of a chain."""
    first, last = units[0], units[-1]
    return Window(first.row, first.col, last.bottom - first.row, first.width)


def share(count: int, worker: int, workers: int) -> range:
    """The part of `count` units in a row that is the work of `worker` (from 0); all parts together are everything."""
    return range(worker * count // workers, (worker + 1) * count // workers)


FLOOR = 1e-3
"""Smallest weight of a blend: no pixel is ever without one, so the frame of a scene is never lost."""


def taper(tile: int, overlap: int) -> NDArray[np.float64]:
    """Weights (tile,) along one axis of a window: sin² ramps over `overlap` pixels at both ends, 1 between, never 0."""
    inside = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.sin(np.pi / 2 * np.minimum(inside / max(overlap, 1), 1)) ** 2 if overlap else np.ones(tile)
    return np.maximum(ramp, FLOOR)


def shares(length: int, first: Sequence[int], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """What part of each pixel's value each window has, (windows, tile): `weights` divided by their sum over windows.

    The parts of all windows that hold a pixel add up to 1. Products of the shares along both axes are the shares in
    the plane, so nothing is left to divide at the end.
    """
    tile = len(weights)
    total = np.zeros(max(length, first[-1] + tile))
    for start in first:
        total[start : start + tile] += weights
    return np.stack([weights / total[start : start + tile] for start in first]).astype(np.float32)
