"""Values for pixels that have none, so that a model sees neither a frame of nodata nor a shifted scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reflected(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Positions `start` … `stop` of an axis of `length` pixels, mirrored at its ends without repeating them."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)


def fill_invalid(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Pixels (bands, h, w) where each invalid one holds the nearest valid one of its row, else of the nearest row.

    `valid`: (h, w), True = valid. Zeros where nothing is valid; the array itself where everything is.
    """
    if valid.all():
        return pixels
    rows: NDArray[np.bool_] = np.any(valid, axis=1)
    if not rows.any():
        return np.zeros_like(pixels)
    row = _nearest(rows[None])[0]
    col = _nearest(valid)[row]
    flat = pixels.reshape(len(pixels), -1)
    filled: NDArray[Any] = flat.take(row[:, None] * valid.shape[1] + col, axis=1)
    return filled


def _nearest(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Position of the nearest True along each row (the left one of two equally near); any position in rows without."""
    width = known.shape[1]
    here = np.arange(width)
    left = np.maximum.accumulate(np.where(known, here, -width), axis=1)
    right = np.minimum.accumulate(np.where(known, here, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    return np.clip(np.where(here - left <= right - here, left, right), 0, width - 1)
