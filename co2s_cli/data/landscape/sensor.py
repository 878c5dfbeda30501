"""Simulate the sensor: from a surface to digital numbers, by sun and shadow, colour, haze, blur and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.data.landscape.ground import Mask
from co2s_cli.data.landscape.look import Look
from co2s_cli.data.landscape.noise import Field, Floats, chance, white
from co2s_cli.data.landscape.palette import GRAIN, TINTS
from co2s_cli.data.landscape.surface import Frame, Surface

MARGIN = 44
"""Width in pixels of the border of a frame that its inner pixels depend on, by the longest shadow and the blur."""


def sense(surface: Surface, frame: Frame, look: Look, seed: int, *, bands: int, dtype: str) -> NDArray[Any]:
    """Digital numbers (bands, h, w) of a frame without its `MARGIN`, never 0."""
    near, inner = np.s_[MARGIN - 1 : 1 - MARGIN, MARGIN - 1 : 1 - MARGIN], np.s_[1:-1, 1:-1]
    y, x = frame.y[near[0]], frame.x[near[1]]
    material = surface.material[near]
    light = relief(surface.height, look)[near] * (1 + frame.texture()[near] * GRAIN.take(material))
    light *= 1 + np.float32(0.05) * Field(seed * 64 + 52, 2600).grid(y, x) - np.float32(0.35) * surface.depth[near]
    air = 1 + np.float32(0.35) * Field(seed * 64 + 53, 1500).grid(y, x)[inner]
    dark = shadows(surface.height, look)[near]
    shade = material.astype(np.intp) * TINTS + surface.tint[near]
    out = np.empty((bands, *air.shape), dtype=dtype)
    for band in range(bands):
        value = look.colors[:, :, band].ravel().take(shade) * light
        value *= np.where(dark, look.ambient[band] * look.gain[band], look.gain[band])
        value = blurred(value, look.blur)[inner] + air * look.haze[band]
        value += _noise(seed, band, frame, len(air)) * (np.float32(0.5) + value * 3) * np.float32(look.noise)
        out[band] = counts(value, dtype)
    return out


def shadows(height: Floats, look: Look) -> Mask:
    """(h, w) True in shadow: where something towards the sun rises above the sun's ray to the pixel."""
    ray = height.copy()
    step = 1
    while step * 2 < MARGIN:
        # doubling: after k rounds `ray` is the shadow's height cast by the 2^k nearest pixels towards the sun
        ahead = _shifted(ray, round(look.sun[0] * step), round(look.sun[1] * step))
        ray = np.maximum(ray, ahead - np.float32(look.shadow_slope * step))
        step *= 2
    return ray > height + np.float32(0.8)


def relief(height: Floats, look: Look) -> Floats:
    """(h, w) brightness by slope: 1 on flat ground, more where the ground faces the sun."""
    slope = np.zeros_like(height)
    slope[1:-1, 1:-1] = (height[2:, 1:-1] - height[:-2, 1:-1]) * np.float32(-look.sun[0])
    slope[1:-1, 1:-1] += (height[1:-1, 2:] - height[1:-1, :-2]) * np.float32(-look.sun[1])
    np.clip(slope, -1.6, 1.6, out=slope)
    slope *= np.float32(0.22)
    slope += 1
    return slope


def blurred(band: Floats, weight: float) -> Floats:
    """The band blurred by the optics over direct neighbours; the outermost pixels are not valid."""
    middle, side = np.float32(1 - 2 * weight), np.float32(weight)
    rows = band.copy()
    rows[1:-1] = band[1:-1] * middle + (band[:-2] + band[2:]) * side
    both = rows.copy()
    both[:, 1:-1] = rows[:, 1:-1] * middle + (rows[:, :-2] + rows[:, 2:]) * side
    return both


def counts(reflectance: Floats, dtype: str) -> NDArray[Any]:
    """Digital numbers, never 0: reflectance × 10,000 as uint16, or a stretch to 8 bits that lifts dark tones."""
    if dtype == "uint16":
        return np.array(np.clip(reflectance * 10000 + np.float32(0.5), 1, 65535), dtype=np.uint16)
    level = np.sqrt(np.maximum(reflectance, 0) * np.float32(1 / 0.45)) * np.float32(255) - np.float32(13.5)
    return np.array(np.clip(level, 1, 255), dtype=np.uint8)


def _noise(seed: int, band: int, frame: Frame, size: int) -> Floats:
    # each frame and band reads one table from its own offset; white noise shows no seams between frames
    row, col = (int(chance(seed, 54 + k, band, frame.row, frame.col) * (white().shape[k] - size)) for k in (0, 1))
    return white()[row : row + size, col : col + size]


def _shifted(values: Floats, row: int, col: int) -> Floats:
    """(h, w) array whose pixel (i, j) is `values[i + row, j + col]`, or 0 outside the frame."""
    out = np.zeros_like(values)
    h, w = values.shape
    target = np.s_[max(-row, 0) : h - max(row, 0), max(-col, 0) : w - max(col, 0)]
    out[target] = values[max(row, 0) : h - max(-row, 0), max(col, 0) : w - max(-col, 0)]
    return out
