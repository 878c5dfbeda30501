"""Find the least sure places of a map: squares that are spread over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SQUARES_ACROSS = 48
"""Number of squares along the longer side of a map."""

_MIN_DISTANCE = 3
"""Least number of squares between two chosen ones, so that they do not all lie in one corner."""


@dataclass(frozen=True, slots=True)
class DoubtfulPlace:
    """A square of the map's picture, in pixels."""

    row: int
    col: int
    side: int
    doubt: float
    """Mean doubt of its pixels."""
    class_id: int | None
    """The most frequent class in the square; None if no pixel has a class."""


def least_sure(doubt: NDArray[np.float32], labels: NDArray[np.uint8], count: int) -> list[DoubtfulPlace]:
    """Up to `count` squares with the highest mean doubt, the highest first; at least half of their pixels have a value.

    Args:
        doubt: (h, w), high where the map is not sure, NaN where it has no value.
        labels: (h, w) class ids of the same pixels.
        count: Number of squares.
    """
    side = max(4, -(-max(doubt.shape) // _SQUARES_ACROSS))
    rows, cols = doubt.shape[0] // side, doubt.shape[1] // side
    cells = (
        doubt[: rows * side, : cols * side]
        .reshape(rows, side, cols, side)
        .swapaxes(1, 2)
        .reshape(rows, cols, side * side)
    )
    has_value = ~np.isnan(cells)
    mean = np.where(has_value, cells, 0).sum(axis=2) / np.maximum(has_value.sum(axis=2), 1)
    mean[2 * has_value.sum(axis=2) < side * side] = -np.inf
    places: list[DoubtfulPlace] = []
    while len(places) < count and mean.size and np.isfinite(mean.max()):
        row, col = (int(index) for index in np.unravel_index(mean.argmax(), mean.shape))
        square = labels[row * side : (row + 1) * side, col * side : (col + 1) * side]
        places.append(DoubtfulPlace(row * side, col * side, side, float(mean[row, col]), _most_frequent(square)))
        rows = slice(max(0, row - _MIN_DISTANCE), row + _MIN_DISTANCE + 1)
        cols = slice(max(0, col - _MIN_DISTANCE), col + _MIN_DISTANCE + 1)
        mean[rows, cols] = -np.inf
    return places


def _most_frequent(labels: NDArray[np.uint8]) -> int | None:
    counts = np.bincount(labels.ravel(), minlength=256)[:255]
    return int(counts.argmax()) if counts.any() else None
