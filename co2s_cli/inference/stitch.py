"""Blend windows into strips of finished rows, on the device of the values; only unfinished rows are held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli import tiling
from co2s_cli.tiling import TilePlan, Window

STRIP_ROWS = 32
"""Maximum rows of a strip: deciding planes from blended values takes memory in proportion to them."""


@dataclass(frozen=True, slots=True)
class WindowValues:
    """The weighted values of one window."""

    down: int
    """Row of the window in the lattice of the plan."""
    across: int
    """Column of the window in the lattice."""
    values: Tensor
    """(depth, tile, tile) in float32, already multiplied by the window's blend weights."""
    valid: NDArray[np.bool_]
    """(tile, tile), True = valid."""


@dataclass(frozen=True, slots=True)
class BlendedStrip:
    """Finished rows of an area: no later window contributes to them."""

    row: int
    """First row, in the scene."""
    blended: Tensor | None
    """(depth, rows, width of the area), overwritten when the next strip is requested; None: no pixel is valid."""
    valid: NDArray[np.bool_]
    """(rows, width of the area), True = valid."""


class BlendWeights:
    """Blend weights of all windows on a device: at each pixel the weights of the windows that hold it add up to 1."""

    def __init__(self, plan: TilePlan, device: torch.device | str = "cpu", *, flat: bool = False) -> None:
        along = np.ones(plan.tile) if flat else tiling.taper(plan.tile, plan.overlap)
        self._rows = torch.from_numpy(tiling.blend_shares(plan.height, plan.rows, along)).to(device)
        self._cols = torch.from_numpy(tiling.blend_shares(plan.width, plan.cols, along)).to(device)

    def apply(self, values: Tensor, down: int, across: int) -> Tensor:
        """Multiply values (depth, tile, tile) by the weights of one window, in place.

        Multiplication and addition are rounded separately: whether a fused multiply-add is used depends on a pixel's
        position in a vector register, so results would depend on how the scene is cut into panels.
        """
        return values.mul_(self._rows[down][:, None] * self._cols[across])


def stitch(
    windows: Iterable[WindowValues], *, plan: TilePlan, area: Window, depth: int, device: torch.device | str = "cpu"
) -> Iterator[BlendedStrip]:
    """Finished rows of `area`, top to bottom without gaps, from its windows in row-major order.

    Windows without a valid pixel may be left out: each window that holds a given valid pixel has one, so every valid
    pixel still gets the sum of all its windows, in the same order in any area that holds the pixel.
    """
    ring = RowRing(plan, area, depth, device)
    for window in windows:
        yield from ring.release(plan.rows[window.down])
        ring.add(window)
    yield from ring.release(area.bottom)


class RowRing:
    """Ring buffer of the unfinished rows of an area: scene row r is stored at r modulo the size of the ring."""

    def __init__(self, plan: TilePlan, area: Window, depth: int, device: torch.device | str) -> None:
        self._plan, self._area = plan, area
        self._size = min(plan.tile, area.height)
        self._sums = torch.zeros((depth, self._size, area.width), device=device)
        self._valid = np.zeros((self._size, area.width), np.bool_)
        self._top = area.row

    def add(self, values: WindowValues) -> None:
        """Add a window's values to the rows and columns that it shares with the area."""
        window, area = self._plan.window(values.down, values.across), self._area
        left, right = max(window.col, area.col), min(window.right, area.right)
        ring_cols, window_cols = slice(left - area.col, right - area.col), slice(left - window.col, right - window.col)
        for top, bottom in self._runs(max(window.row, area.row), min(window.bottom, area.bottom)):
            ring_rows = slice(top % self._size, top % self._size + bottom - top)
            window_rows = slice(top - window.row, bottom - window.row)
            self._sums[:, ring_rows, ring_cols].add_(values.values[:, window_rows, window_cols])
            valid = self._valid[ring_rows, ring_cols]
            np.logical_or(valid, values.valid[window_rows, window_cols], out=valid)

    def release(self, until: int) -> Iterator[BlendedStrip]:
        """Yield the rows above scene row `until` and clear them in the ring."""
        for start, stop in self._runs(self._top, min(until, self._area.bottom)):
            for top in range(start, stop, STRIP_ROWS):
                bottom = min(top + STRIP_ROWS, stop)
                ring_rows = slice(top % self._size, top % self._size + bottom - top)
                valid = self._valid[ring_rows].copy()
                yield BlendedStrip(top, self._sums[:, ring_rows] if valid.any() else None, valid)
                self._sums[:, ring_rows] = 0
                self._valid[ring_rows] = False
                self._top = bottom

    def _runs(self, top: int, bottom: int) -> Iterator[tuple[int, int]]:
        """Rows `top` to `bottom` (exclusive), cut where the ring wraps around."""
        while top < bottom:
            stop = min(bottom, top - top % self._size + self._size)
            yield top, stop
            top = stop
