"""Encode arrays as pictures (data URIs) for an HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from co2s_cli.classes import IGNORE, Color

RAMP_STEPS = 32
"""Number of colours of a ramp: as many as the eye tells apart, few enough to compress well."""

_RAMP_STOPS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
"""Dark violet to yellow, in perceptually equal steps (viridis)."""


def photo(image: NDArray[np.uint8], valid: NDArray[np.bool_], quality: int = 80) -> str:
    """An image (h, w, 3) as a WebP data URI, transparent where `valid` (h, w) is False."""
    alpha = np.where(valid, np.uint8(255), np.uint8(0))
    return _webp(np.dstack([image, alpha]), quality)


def _webp(pixels: NDArray[np.uint8], quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=2)
    return _uri("webp", buffer)


def class_picture(labels: NDArray[np.uint8], colors: Sequence[Color]) -> str:
    """Class ids (h, w) in their colours as a PNG data URI, transparent at `IGNORE`."""
    return _indexed(labels, colors)


def ramp(steps: int = RAMP_STEPS) -> tuple[Color, ...]:
    """The colours of the ramp, from low to high values."""
    positions = np.linspace(0, len(_RAMP_STOPS) - 1, steps)
    bands = [np.interp(positions, np.arange(len(_RAMP_STOPS)), _RAMP_STOPS[:, band]) for band in range(3)]
    rounded = np.rint(np.stack(bands, axis=1)).astype(int)
    return tuple((int(red), int(green), int(blue)) for red, green, blue in rounded)


def ramp_picture(fractions: NDArray[np.float32], low: float, high: float) -> str:
    """Values (h, w) from `low` to `high` in the colours of `ramp`, as a PNG data URI, transparent where NaN."""
    color_index = np.clip((fractions - low) / max(high - low, 1e-6) * RAMP_STEPS, 0, RAMP_STEPS - 1)
    return _indexed(np.where(np.isnan(fractions), IGNORE, np.nan_to_num(color_index)).astype(np.uint8), ramp())


def distinct(colors: Iterable[Color]) -> tuple[Color, ...]:
    """The colours, with repeated ones changed as little as possible, so that each class has its own colour."""
    unique: list[Color] = []
    for color in colors:
        number = int.from_bytes(bytes(color), "big")
        while (changed := _color(number)) in unique:
            number = (number + 1) % 2**24
        unique.append(changed)
    return tuple(unique)


def _color(number: int) -> Color:
    red, green, blue = number.to_bytes(3, "big")
    return red, green, blue


def _indexed(ids: NDArray[np.uint8], colors: Sequence[Color]) -> str:
    """A PNG with a palette: `ids` (h, w) are indices of `colors`; larger ids are transparent."""
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes())
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    image.putpalette(palette.tobytes())
    opaque = bytes(255 if value < len(colors) else 0 for value in range(256))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=opaque)
    return _uri("png", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
