"""The least sure places of a map: squares spread over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ACROSS = 48
"""Squares along the longer side of a map."""

_APART = 3
"""Squares between two places, so that they do not all lie in one corner."""


@dataclass(frozen=True, slots=True)
class DoubtfulPlace:
    """A square of a picture."""

    row: int
    col: int
    side: int
    doubt: float
    """Mean of its pixels."""
    class_id: int | None
    """The most frequent class in it; None where it has none."""


def least_sure(doubt: NDArray[np.float32], labels: NDArray[np.uint8], count: int) -> list[DoubtfulPlace]:
    """Up to `count` squares of the highest mean doubt, the highest first; half of a square at least has a value.

    Args:
        doubt: (h, w), NaN where nothing is known.
        labels: (h, w) class ids of the same pixels.
        count: Squares that are wanted.
    """
    side = max(4, -(-max(doubt.shape) // _ACROSS))
    rows, cols = doubt.shape[0] // side, doubt.shape[1] // side
    cells = (
        doubt[: rows * side, : cols * side]
        .reshape(rows, side, cols, side)
        .swapaxes(1, 2)
        .reshape(rows, cols, side * side)
    )
    known = ~np.isnan(cells)
    mean = np.where(known, cells, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    mean[2 * known.sum(axis=2) < side * side] = -np.inf
    places: list[DoubtfulPlace] = []
    while len(places) < count and mean.size and np.isfinite(mean.max()):
        row, col = (int(at) for at in np.unravel_index(mean.argmax(), mean.shape))
        square = labels[row * side : (row + 1) * side, col * side : (col + 1) * side]
        places.append(DoubtfulPlace(row * side, col * side, side, float(mean[row, col]), _most_frequent(square)))
        mean[max(0, row - _APART) : row + _APART + 1, max(0, col - _APART) : col + _APART + 1] = -np.inf
    return places


def _most_frequent(labels: NDArray[np.uint8]) -> int | None:
    counts = np.bincount(labels.ravel(), minlength=256)[:255]
    return int(counts.argmax()) if counts.any() else None
