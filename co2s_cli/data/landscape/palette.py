"""Materials of the ground, the class of each, and their reflectance by season."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.data.landscape.noise import Floats

CLASSES = ClassMap.of(
    [
        {"name": "building", "color": [214, 69, 65], "prompts": ["building", "roof", "house"]},
        {"name": "road", "color": [250, 197, 88], "prompts": ["road", "street", "highway", "bridge"]},
        {"name": "pavement", "color": [170, 170, 178], "prompts": ["pavement", "parking lot", "paved yard"]},
        {"name": "vegetation", "color": [84, 158, 73], "prompts": ["vegetation", "forest", "trees", "grass", "crops"]},
        {"name": "bare soil", "color": [176, 128, 84], "prompts": ["bare soil", "ploughed field", "sand"]},
        {"name": "water", "color": [66, 133, 200], "prompts": ["water", "river", "lake", "pond"]},
    ]
)
"""The six classes of every landscape, in the order of WHDLD."""

BANDS = ("red", "green", "blue", "nir")
TINTS = 16
"""Number of shades per material, so that neighbours of the same material (roofs, fields, crowns) can be told apart."""


class Material(IntEnum):
    """A kind of surface with its own colours; several materials belong to one class."""

    TILE_ROOF = 0
    SLATE_ROOF = 1
    FLAT_ROOF = 2
    METAL_ROOF = 3
    ASPHALT = 4
    MARKING = 5
    ROAD_CAR = 6
    CONCRETE = 7
    PARKING = 8
    PAVING = 9
    STALL = 10
    YARD_CAR = 11
    GRASS = 12
    MEADOW = 13
    CROWN = 14
    UNDERGROWTH = 15
    CROP_GREEN = 16
    CROP_YOUNG = 17
    CROP_RIPE = 18
    CROP_BLOOM = 19
    PLOUGHED = 20
    SAND = 21
    GRAVEL = 22
    RIVER = 23
    LAKE = 24
    POOL = 25


CLASS_OF: NDArray[np.uint8] = np.repeat(np.arange(6, dtype=np.uint8), [4, 3, 5, 8, 3, 3])
"""Class id of each material."""

GRAIN: Floats = np.array(
    [.05, .05, .07, .03, .05, .03, .02, .07, .06, .07, .03, .02,
     .10, .16, .10, .16, .06, .10, .07, .07, .10, .07, .09, .03, .03, .02],
    dtype=np.float32,
)  # fmt: skip
"""Standard deviation of the brightness within each material."""

SEASONS = ("summer", "autumn", "spring", "dry")

# reflectance in red, green, blue, near infrared: the darkest and the brightest shade of each material
_LASTING: dict[Material, tuple[tuple[float, ...], tuple[float, ...]]] = {
    Material.ASPHALT: ((0.105, 0.105, 0.105, 0.125), (0.155, 0.152, 0.148, 0.175)),
    Material.MARKING: ((0.33, 0.33, 0.32, 0.36), (0.40, 0.40, 0.39, 0.42)),
    Material.CONCRETE: ((0.235, 0.225, 0.21, 0.27), (0.31, 0.30, 0.28, 0.33)),
    Material.PARKING: ((0.135, 0.135, 0.138, 0.155), (0.185, 0.183, 0.18, 0.20)),
    Material.PAVING: ((0.22, 0.195, 0.175, 0.25), (0.27, 0.255, 0.24, 0.29)),
    Material.STALL: ((0.32, 0.32, 0.32, 0.34), (0.36, 0.36, 0.36, 0.38)),
    Material.SLATE_ROOF: ((0.10, 0.105, 0.115, 0.14), (0.17, 0.17, 0.175, 0.20)),
    Material.FLAT_ROOF: ((0.17, 0.165, 0.16, 0.19), (0.36, 0.355, 0.34, 0.37)),
    Material.METAL_ROOF: ((0.20, 0.25, 0.31, 0.30), (0.42, 0.42, 0.42, 0.43)),
    Material.RIVER: ((0.055, 0.075, 0.068, 0.025), (0.06, 0.08, 0.07, 0.03)),
    Material.LAKE: ((0.03, 0.05, 0.06, 0.015), (0.035, 0.055, 0.065, 0.018)),
    Material.POOL: ((0.10, 0.30, 0.36, 0.05), (0.14, 0.33, 0.38, 0.06)),
}
_LEAF: dict[str, dict[Material, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "summer": {
        Material.GRASS: ((0.085, 0.125, 0.058, 0.36), (0.12, 0.15, 0.07, 0.38)),
        Material.MEADOW: ((0.10, 0.135, 0.06, 0.35), (0.145, 0.155, 0.08, 0.34)),
        Material.CROWN: ((0.035, 0.065, 0.03, 0.30), (0.065, 0.10, 0.042, 0.40)),
        Material.UNDERGROWTH: ((0.03, 0.045, 0.025, 0.19), (0.05, 0.065, 0.035, 0.24)),
        Material.CROP_GREEN: ((0.055, 0.105, 0.045, 0.42), (0.075, 0.13, 0.05, 0.46)),
        Material.CROP_YOUNG: ((0.11, 0.145, 0.07, 0.36), (0.135, 0.16, 0.08, 0.34)),
        Material.CROP_RIPE: ((0.225, 0.20, 0.105, 0.33), (0.27, 0.235, 0.13, 0.36)),
        Material.CROP_BLOOM: ((0.14, 0.165, 0.07, 0.42), (0.17, 0.185, 0.075, 0.43)),
    },
    "autumn": {
        Material.GRASS: ((0.11, 0.125, 0.065, 0.31), (0.145, 0.145, 0.08, 0.31)),
        Material.MEADOW: ((0.145, 0.14, 0.075, 0.30), (0.18, 0.16, 0.09, 0.30)),
        Material.CROWN: ((0.07, 0.075, 0.03, 0.29), (0.185, 0.10, 0.04, 0.33)),
        Material.UNDERGROWTH: ((0.055, 0.05, 0.03, 0.17), (0.09, 0.07, 0.04, 0.21)),
        Material.CROP_GREEN: ((0.075, 0.115, 0.05, 0.36), (0.095, 0.13, 0.06, 0.38)),
        Material.CROP_YOUNG: ((0.12, 0.145, 0.075, 0.33), (0.15, 0.16, 0.09, 0.32)),
        Material.CROP_RIPE: ((0.215, 0.175, 0.105, 0.30), (0.25, 0.21, 0.135, 0.32)),
        Material.CROP_BLOOM: ((0.155, 0.135, 0.06, 0.30), (0.175, 0.15, 0.07, 0.31)),
    },
    "spring": {
        Material.GRASS: ((0.075, 0.14, 0.05, 0.40), (0.10, 0.165, 0.06, 0.42)),
        Material.MEADOW: ((0.09, 0.15, 0.055, 0.40), (0.14, 0.175, 0.07, 0.40)),
        Material.CROWN: ((0.05, 0.085, 0.035, 0.33), (0.10, 0.14, 0.06, 0.42)),
        Material.UNDERGROWTH: ((0.055, 0.06, 0.035, 0.20), (0.075, 0.075, 0.045, 0.25)),
        Material.CROP_GREEN: ((0.06, 0.125, 0.045, 0.46), (0.075, 0.145, 0.05, 0.48)),
        Material.CROP_YOUNG: ((0.13, 0.15, 0.08, 0.31), (0.15, 0.165, 0.095, 0.29)),
        Material.CROP_RIPE: ((0.165, 0.18, 0.085, 0.36), (0.19, 0.195, 0.095, 0.37)),
        Material.CROP_BLOOM: ((0.29, 0.275, 0.06, 0.45), (0.32, 0.30, 0.07, 0.46)),
    },
    "dry": {
        Material.GRASS: ((0.145, 0.14, 0.08, 0.29), (0.19, 0.17, 0.10, 0.29)),
        Material.MEADOW: ((0.19, 0.165, 0.095, 0.29), (0.225, 0.19, 0.115, 0.30)),
        Material.CROWN: ((0.055, 0.07, 0.04, 0.24), (0.085, 0.095, 0.055, 0.30)),
        Material.UNDERGROWTH: ((0.12, 0.105, 0.065, 0.22), (0.15, 0.13, 0.08, 0.25)),
        Material.CROP_GREEN: ((0.065, 0.11, 0.05, 0.37), (0.085, 0.125, 0.055, 0.40)),
        Material.CROP_YOUNG: ((0.14, 0.15, 0.085, 0.30), (0.165, 0.165, 0.10, 0.29)),
        Material.CROP_RIPE: ((0.25, 0.215, 0.13, 0.33), (0.29, 0.25, 0.155, 0.35)),
        Material.CROP_BLOOM: ((0.16, 0.155, 0.085, 0.30), (0.185, 0.175, 0.10, 0.30)),
    },
}
_SOILS = (
    (0.155, 0.115, 0.082, 0.21),
    (0.205, 0.135, 0.085, 0.26),
    (0.185, 0.155, 0.115, 0.24),
    (0.13, 0.105, 0.085, 0.18),
)
_ROOFS = ((0.24, 0.105, 0.07, 0.28), (0.215, 0.13, 0.09, 0.26), (0.165, 0.11, 0.09, 0.21), (0.27, 0.155, 0.105, 0.31))
_CARS = ((0.40, 0.40, 0.40), (0.05, 0.05, 0.055), (0.22, 0.22, 0.23), (0.26, 0.05, 0.04), (0.06, 0.10, 0.24))


def palette(rng: np.random.Generator, season: str) -> Floats:
    """(materials, shades, 4) reflectance of all materials in `season`, with random variation as between regions."""
    table = np.empty((len(Material), TINTS, len(BANDS)), dtype=np.float32)
    soil, roof = np.array(_SOILS[rng.integers(4)]), np.array(_ROOFS[rng.integers(4)])
    ends = {m: (np.array(low), np.array(high)) for m, (low, high) in (_LASTING | _LEAF[season]).items()}
    ends[Material.PLOUGHED] = (soil * 0.85, soil * 1.25)
    ends[Material.SAND] = (soil * 0.5 + 0.12, soil * 0.55 + 0.17)
    ends[Material.GRAVEL] = (soil * 0.5 + 0.085, soil * 0.5 + 0.14)
    ends[Material.TILE_ROOF] = (roof * 0.75, roof * 1.2)
    blend = np.linspace(0, 1, TINTS)[:, None]
    for material, (low, high) in ends.items():
        shades = low + blend * (high - low)
        table[material] = shades * rng.normal(1, 0.035, (TINTS, 1)) * rng.normal(1, 0.02, (TINTS, len(BANDS)))
    table[Material.RIVER] *= rng.uniform(0.8, 1.5) * np.array([rng.uniform(0.8, 1.4), 1, rng.uniform(0.8, 1.1), 1])
    cars = np.array(_CARS)[np.arange(TINTS) % len(_CARS)]
    table[Material.ROAD_CAR] = table[Material.YARD_CAR] = np.c_[cars, cars.mean(axis=1) * 1.05]
    return table
