"""Resample imagery from the pixels of a raster to the resolution of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def source_span(start: int, stop: int, length: int, source_length: int) -> tuple[int, int]:
    """Source pixels (first, past the last) from which pixels `start` … `stop` - 1 of a resampled axis are computed."""
    factor = source_length / length
    if factor == 1:
        return start, stop
    kernel_radius = max(1.0, factor)
    return (
        max(0, math.floor(start * factor - kernel_radius)),
        min(source_length, math.ceil(stop * factor + kernel_radius)),
    )


def resample(
    pixels: NDArray[Any], valid: NDArray[np.bool_], box: tuple[float, float, float, float], shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels (bands, h, w) of `box` (left, top, right, bottom), resampled to `shape` (h, w), and their validity (h, w).

    The kernel is a triangle (bilinear), widened when shrinking so that each source pixel contributes. Invalid source
    pixels have no weight. A pixel is valid if any weight is left, so that every valid source pixel lies in a valid one.
    """
    height, width = valid.shape
    clipped = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    weight = _resized(valid.astype(np.float32), clipped, shape)
    resized_valid = weight > 1e-6
    divisor = np.where(resized_valid, weight, 1)
    bands = [_resized(np.where(valid, band, 0).astype(np.float32), clipped, shape) / divisor for band in pixels]
    return _as_type(np.stack(bands), pixels.dtype), resized_valid


def _resized(
    band: NDArray[np.float32], box: tuple[float, float, float, float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """`box` of one band resized to `shape` (h, w) by Pillow's bilinear kernel."""
    image = Image.fromarray(band).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.float32)


def _as_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the sample type `dtype`; for integers rounded and clipped to its range."""
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
