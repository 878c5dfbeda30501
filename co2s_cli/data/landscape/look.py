"""The properties in which scenes differ: season, sun, haze, sensor, soil, roofs and shares of land use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from co2s_cli.data.landscape.noise import Floats
from co2s_cli.data.landscape.palette import SEASONS, palette

KINDS = ("farm", "homes", "works", "centre", "forest", "park", "quarry")
"""Kinds of districts, by land use."""
_SHARES = np.array([0.33, 0.21, 0.13, 0.08, 0.12, 0.06, 0.07])


@dataclass(frozen=True, slots=True)
class Look:
    """Random properties that hold for a whole scene."""

    season: str
    colors: Floats
    """(materials, shades, 4) reflectance at the ground in full sun."""
    sun: tuple[float, float]
    """Horizontal unit vector (rows, columns) from the ground towards the sun."""
    shadow_slope: float
    """Tangent of the sun's elevation: decrease of a shadow's upper edge per pixel of distance."""
    ambient: Floats
    """(4,) share of each band's light that reaches shadows."""
    haze: Floats
    """(4,) reflectance that the haze adds, where it is of mean thickness."""
    gain: Floats
    """(4,) response of the sensor's bands."""
    blur: float
    """Weight of each of the two neighbours along an axis in the blur of the optics."""
    noise: float
    """Standard deviation of the sensor's noise in reflectance, in mid-tones."""
    turn: float
    """Direction of the main roads in radians."""
    tilt: float
    """Direction of the satellite's path in radians, which turns the footprint of tilted scenes."""
    kinds: Floats
    """(kinds,) relative frequency of each kind of district."""


@lru_cache(maxsize=16)
def look(seed: int) -> Look:
    """The properties of scene `seed`; consecutive seeds have different seasons."""
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 2])
    season = SEASONS[(seed - 1) % len(SEASONS)]
    azimuth, elevation = np.radians(rng.uniform(115, 245)), np.radians(rng.uniform(33, 56))
    haze = rng.uniform(0.004, 0.03)
    return Look(
        season=season,
        colors=palette(rng, season),
        sun=(float(-np.cos(azimuth)), float(np.sin(azimuth))),
        shadow_slope=float(np.tan(elevation)),
        ambient=_bands(rng.uniform(0.36, 0.5) * np.array([0.82, 0.95, 1.18, 0.7])),
        haze=_bands(haze * np.array([0.8, 1.0, 1.5, 0.4])),
        gain=_bands(rng.normal(1, 0.035, 4) * rng.uniform(0.92, 1.1)),
        blur=float(rng.uniform(0.08, 0.18)),
        noise=float(rng.uniform(0.0025, 0.0055)),
        turn=float(rng.uniform(0.1, 0.6) + np.pi / 2 * rng.integers(0, 2)),
        tilt=float(np.radians(rng.uniform(6, 16))),
        kinds=_bands(_SHARES * rng.uniform(0.7, 1.4, len(KINDS))),
    )


def _bands(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Floats:
    return values.astype(np.float32)
