"""Choose the plots of a scene that a person would label, and the squares for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape.noise import uniform
from co2s_cli.tiling import Window

_CANDIDATES = 8
"""Random positions of a plot that are compared in each cell."""
_GAP = 8
"""Least distance in pixels between labelled plots and validation squares."""
_VALIDATION_SHARE = 0.12
_MIN_CLASS_SHARE = 0.01
"""Least share of the pixels with which a class counts as present."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A small square with labels, as a person would draw it."""

    window: Window
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Survey:
    """Division of a square scene of `size` pixels into cells, each with one labelled plot; some are for validation."""

    seed: int
    size: int

    @property
    def cell(self) -> int:
        """Side of a cell in pixels: a power of two from 32 to 256."""
        return int(min(256, max(32, 2 ** int(np.log2(self.size / 4)))))

    @property
    def side(self) -> int:
        """Side of a plot in pixels: a plot covers 3.5 % of its cell."""
        return self.cell * 3 // 16

    def plots(self, window: Window, labels: NDArray[np.uint8]) -> Iterator[Plot]:
        """The plot of each cell in `window`, whose corners must be corners of cells; `labels` (h, w) are its class ids.

        Of several random positions the one with most classes is used, as a person looks for places worth labelling.
        """
        for row in range(window.row, window.bottom - self.cell + 1, self.cell):
            for col in range(window.col, window.right - self.cell + 1, self.cell):
                cell_labels = labels[row - window.row :, col - window.col :][: self.cell, : self.cell]
                y, x = max(self._candidates(row, col), key=lambda corner: _variety(self._cut(cell_labels, corner)))
                yield Plot(Window(row + y, col + x, self.side, self.side), self._cut(cell_labels, (y, x)).copy())

    def validation(self, counts: Mapping[tuple[int, int], NDArray[np.int64]]) -> list[Window]:
        """Squares for validation: about 12 % of the scene, chosen to contain as many classes as possible.

        `counts` has the pixels of each class (classes,) in each cell, by row and column of the cell.
        """
        span = max(1, min(4, self.size // self.cell // 4))
        squares_across = self.size // (span * self.cell)
        counts_by_square = {
            (i, j): sum(counts[i * span + m, j * span + n] for m in range(span) for n in range(span))
            for i in range(squares_across)
            for j in range(squares_across)
        }
        least = _MIN_CLASS_SHARE * (span * self.cell) ** 2
        present = {square: set(np.flatnonzero(total >= least).tolist()) for square, total in counts_by_square.items()}
        order = sorted(present, key=lambda square: float(uniform(self.seed, 71, *square)[0]))
        chosen: list[tuple[int, int]] = []
        for _ in range(max(1, round(_VALIDATION_SHARE * squares_across**2)) if squares_across > 1 else 0):
            covered = {class_id for square in chosen for class_id in present[square]}
            rest = [square for square in order if square not in chosen]
            # most new classes first, then any class at all: squares of nodata come last; of equals the first in `order`
            chosen.append(max(rest, key=lambda square: (len(present[square] - covered), bool(present[square]))))
        side = span * self.cell
        return [Window(i * side, j * side, side, side) for i, j in sorted(chosen)]

    def _candidates(self, row: int, col: int) -> list[tuple[int, int]]:
        """Random upper left corners of a plot, relative to the cell at pixel (`row`, `col`)."""
        free = self.cell - self.side - 2 * _GAP if self.cell > 64 else self.cell - self.side - 4
        margin = (self.cell - self.side - free) // 2
        draws = uniform(self.seed, 72, row, col, np.arange(2 * _CANDIDATES)) * free + margin
        return [(int(y), int(x)) for y, x in draws.reshape(-1, 2)]

    def _cut(self, labels: NDArray[np.uint8], corner: tuple[int, int]) -> NDArray[np.uint8]:
        return labels[corner[0] : corner[0] + self.side, corner[1] : corner[1] + self.side]


def _variety(labels: NDArray[np.uint8]) -> float:
    """Score of a plot: its number of classes with over 3 % of the pixels, plus an eighth of their shares' entropy."""
    share = np.bincount(labels[labels != IGNORE], minlength=1) / labels.size
    share = share[share > 0.03]
    return len(share) - float((share * np.log2(share)).sum()) / 8
