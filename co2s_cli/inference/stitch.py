"""Blend windows into strips of finished rows, on the device where the values are; only open rows are held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli import tiling
from co2s_cli.tiling import Plan, Window

LINES = 32
"""Rows that leave at a time: what is decided from them needs memory too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The values of one window."""

    down: int
    """Its row in the lattice of the plan."""
    across: int
    """Its column in the lattice."""
    values: Tensor
    """(depth, tile, tile) in float32, already multiplied by the window's weights."""
    valid: NDArray[np.bool_]
    """(tile, tile), True = valid."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows that no later window touches."""

    row: int
    """The first one, in the scene."""
    blended: Tensor | None
    """(depth, rows, width of the area), good until the next strip is asked for; None where no pixel is valid."""
    valid: NDArray[np.bool_]
    """(rows, width of the area), True = valid."""


class Weights:
    """The weights of the blend on a device: of all windows that hold a pixel they add up to 1."""

    def __init__(self, plan: Plan, device: torch.device | str = "cpu", *, flat: bool = False) -> None:
        along = np.ones(plan.tile) if flat else tiling.taper(plan.tile, plan.overlap)
        self._rows = torch.from_numpy(tiling.shares(plan.height, plan.rows, along)).to(device)
        self._cols = torch.from_numpy(tiling.shares(plan.width, plan.cols, along)).to(device)

    def apply(self, values: Tensor, down: int, across: int) -> Tensor:
        """Multiply values (depth, tile, tile) by the weights of one window, in place.

        Product and sum stay two roundings: fused into one they would depend on where a pixel lies in a vector
        register, and so on the cut into panels.
        """
        return values.mul_(self._rows[down][:, None] * self._cols[across])


def stitch(
    pieces: Iterable[Piece], *, plan: Plan, area: Window, depth: int, device: torch.device | str = "cpu"
) -> Iterator[Strip]:
    """Finished rows of `area`, top to bottom without gaps, from its windows in row-major order.

    Windows without a valid pixel may be left out: a valid pixel makes every window that holds it a valid one, so
    each valid pixel gets the sum of all its windows, in the same order in any area that holds it.
    """
    ring = _Ring(plan, area, depth, device)
    for piece in pieces:
        yield from ring.release(plan.rows[piece.down])
        ring.add(piece)
    yield from ring.release(area.bottom)


class _Ring:
    """The open rows of an area: row r lies in place r modulo their number."""

    def __init__(self, plan: Plan, area: Window, depth: int, device: torch.device | str) -> None:
        self._plan, self._area = plan, area
        self._size = min(plan.tile, area.height)
        self._sums = torch.zeros((depth, self._size, area.width), device=device)
        self._valid = np.zeros((self._size, area.width), np.bool_)
        self._top = area.row

    def add(self, piece: Piece) -> None:
        """Add a window's values to the rows and columns of the area."""
        window, area = self._plan.window(piece.down, piece.across), self._area
        left, right = max(window.col, area.col), min(window.right, area.right)
        there, here = slice(left - area.col, right - area.col), slice(left - window.col, right - window.col)
        for top, bottom in self._runs(max(window.row, area.row), min(window.bottom, area.bottom)):
            place = slice(top % self._size, top % self._size + bottom - top)
            rows = slice(top - window.row, bottom - window.row)
            self._sums[:, place, there].add_(piece.values[:, rows, here])
            known = self._valid[place, there]
            np.logical_or(known, piece.valid[rows, here], out=known)

    def release(self, until: int) -> Iterator[Strip]:
        """Hand out the rows above `until` and make their places free."""
        for start, stop in self._runs(self._top, min(until, self._area.bottom)):
            for top in range(start, stop, LINES):
                bottom = min(top + LINES, stop)
                place = slice(top % self._size, top % self._size + bottom - top)
                valid = self._valid[place].copy()
                yield Strip(top, self._sums[:, place] if valid.any() else None, valid)
                self._sums[:, place] = 0
                self._valid[place] = False
                self._top = bottom

    def _runs(self, top: int, bottom: int) -> Iterator[tuple[int, int]]:
        """Cut rows where the ring begins anew."""
        while top < bottom:
            stop = min(bottom, top - top % self._size + self._size)
            yield top, stop
            top = stop
