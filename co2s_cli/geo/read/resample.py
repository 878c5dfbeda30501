"""Imagery from the pixels of a raster to those of the resolution that a model wants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def source_span(start: int, stop: int, length: int, source_length: int) -> tuple[int, int]:
    """First and past-the-last source pixel that pixels `start` … `stop` of a resampled axis are made of."""
    factor = source_length / length
    if factor == 1:
        return start, stop
    reach = max(1.0, factor)
    return max(0, math.floor(start * factor - reach)), min(source_length, math.ceil(stop * factor + reach))


def resample(
    pixels: NDArray[Any], valid: NDArray[np.bool_], box: tuple[float, float, float, float], shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels (bands, h, w) of `box` (left, top, right, bottom) as `shape` (h, w) pixels, and which of those are valid.

    A triangle over the source pixels, widened when shrinking so that each of them counts; invalid ones have no
    weight, and a pixel is valid where any weight is left. So every valid source pixel lies in a valid pixel.
    """
    height, width = valid.shape
    limits = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    weight = _shrunk(valid.astype(np.float32), limits, shape)
    known = weight > 1e-6
    divisor = np.where(known, weight, 1)
    bands = [_shrunk(np.where(valid, band, 0).astype(np.float32), limits, shape) / divisor for band in pixels]
    return _as_type(np.stack(bands), pixels.dtype), known


def _shrunk(
    band: NDArray[np.float32], box: tuple[float, float, float, float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    image = Image.fromarray(band).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32)


def _as_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
