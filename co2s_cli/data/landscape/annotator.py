"""What a person would label of a scene, and what is held back for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape.noise import uniform
from co2s_cli.tiling import Window

_CANDIDATES = 8
_GAP = 8
"""Pixels that stay free between labelled plots and validation."""
_VALIDATION_SHARE = 0.12
_WORTH = 0.01
"""A class counts as present from this share of pixels on."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A small square that a person labelled."""

    window: Window
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Survey:
    """How a square scene of `size` pixels is cut into cells: each holds one plot, some are for validation."""

    seed: int
    size: int

    @property
    def cell(self) -> int:
        """Side of a cell in pixels: a power of two up to 256."""
        return int(min(256, max(32, 2 ** int(np.log2(self.size / 4)))))

    @property
    def side(self) -> int:
        """Side of a plot in pixels: 3.5 % of a cell is labelled."""
        return self.cell * 3 // 16

    def plots(self, window: Window, labels: NDArray[np.uint8]) -> Iterator[Plot]:
        """The best plot of each cell that lies in `window`, whose corners are corners of cells.

        Of a few random places the one with the most classes is taken: a person looks for a place worth the work.
        """
        for row in range(window.row, window.bottom - self.cell + 1, self.cell):
            for col in range(window.col, window.right - self.cell + 1, self.cell):
                area = labels[row - window.row :, col - window.col :][: self.cell, : self.cell]
                y, x = max(self._candidates(row, col), key=lambda place: _variety(self._cut(area, place)))
                yield Plot(Window(row + y, col + x, self.side, self.side), self._cut(area, (y, x)).copy())

    def validation(self, counts: Mapping[tuple[int, int], NDArray[np.int64]]) -> list[Window]:
        """Squares for validation: about 12 % of the scene, together with as many classes as can be.

        `counts` gives for each cell, by its row and column of cells, how many pixels each class has in it.
        """
        span = max(1, min(4, self.size // self.cell // 4))
        along = self.size // (span * self.cell)
        squares = {
            (i, j): sum(counts[i * span + m, j * span + n] for m in range(span) for n in range(span))
            for i in range(along)
            for j in range(along)
        }
        least = _WORTH * (span * self.cell) ** 2
        present = {place: set(np.flatnonzero(total >= least).tolist()) for place, total in squares.items()}
        order = sorted(present, key=lambda place: float(uniform(self.seed, 71, *place)[0]))
        chosen: list[tuple[int, int]] = []
        for _ in range(max(1, round(_VALIDATION_SHARE * along**2)) if along > 1 else 0):
            seen = {class_id for place in chosen for class_id in present[place]}
            rest = [place for place in order if place not in chosen]
            # the first of equals; in a collar of nodata there is nothing to validate
            chosen.append(max(rest, key=lambda place: (len(present[place] - seen), bool(present[place]))))
        side = span * self.cell
        return [Window(i * side, j * side, side, side) for i, j in sorted(chosen)]

    def _candidates(self, row: int, col: int) -> list[tuple[int, int]]:
        free = self.cell - self.side - 2 * _GAP if self.cell > 64 else self.cell - self.side - 4
        margin = (self.cell - self.side - free) // 2
        draws = uniform(self.seed, 72, row, col, np.arange(2 * _CANDIDATES)) * free + margin
        return [(int(y), int(x)) for y, x in draws.reshape(-1, 2)]

    def _cut(self, area: NDArray[np.uint8], place: tuple[int, int]) -> NDArray[np.uint8]:
        return area[place[0] : place[0] + self.side, place[1] : place[1] + self.side]


def _variety(labels: NDArray[np.uint8]) -> float:
    """How much a plot teaches: the number of its classes, first of all; the entropy of their shares between equals."""
    share = np.bincount(labels[labels != IGNORE], minlength=1) / labels.size
    share = share[share > 0.03]
    return len(share) - float((share * np.log2(share)).sum()) / 8
