"""Values of the materials in eight bands: blue, green, red, red edge, near infrared, two SWIR and thermal."""

from __future__ import annotations

import numpy as np

from co2s_cli.data.landscape.noise import Floats
from co2s_cli.data.landscape.palette import BANDS, Material

SPECTRUM = ("blue", "green", "red", "rededge", "nir", "swir1", "swir2", "thermal")
"""Bands of a full spectrum, by increasing wavelength."""

_DEFAULT = (0.55, 1.15, 1.05, 0.70)
# red edge: position between red (0) and nir (1); SWIR 1 and SWIR 2: multiples of nir; thermal: 0 cold … 1 hot
_BEYOND: dict[Material, tuple[float, float, float, float]] = {
    Material.METAL_ROOF: (0.50, 0.95, 0.90, 0.60),
    Material.TILE_ROOF: (0.60, 1.25, 1.15, 0.75),
    Material.ASPHALT: (0.50, 1.15, 1.10, 0.80),
    Material.GRASS: (0.38, 0.62, 0.34, 0.40),
    Material.MEADOW: (0.40, 0.72, 0.44, 0.45),
    Material.CROWN: (0.36, 0.46, 0.20, 0.22),
    Material.UNDERGROWTH: (0.38, 0.55, 0.28, 0.25),
    Material.CROP_GREEN: (0.35, 0.50, 0.22, 0.30),
    Material.CROP_YOUNG: (0.42, 0.80, 0.52, 0.45),
    Material.CROP_RIPE: (0.58, 1.05, 0.80, 0.58),
    Material.CROP_BLOOM: (0.42, 0.62, 0.36, 0.38),
    Material.PLOUGHED: (0.55, 1.40, 1.25, 0.72),
    Material.SAND: (0.55, 1.30, 1.20, 0.70),
    Material.GRAVEL: (0.52, 1.20, 1.12, 0.72),
    Material.RIVER: (0.50, 0.35, 0.20, 0.12),
    Material.LAKE: (0.50, 0.30, 0.18, 0.10),
    Material.POOL: (0.40, 0.25, 0.15, 0.15),
}


def spectrum(colors: Floats, rng: np.random.Generator) -> Floats:
    """(materials, shades, 8) values of all materials in the bands of `SPECTRUM`.

    `colors` (materials, shades, 4) are reflectances in `palette.BANDS`. Random factors vary each material by some
    percent, as between regions of the world. Thermal is warmth in [0, 1], scaled to the range of reflectances.
    """
    red, green, blue, nir = (colors[..., BANDS.index(name)] for name in ("red", "green", "blue", "nir"))
    beyond = np.array([_BEYOND.get(material, _DEFAULT) for material in Material])
    beyond = (beyond * rng.normal(1, (0.06, 0.10, 0.10, 0.08), beyond.shape))[:, None]
    edge, first, second, warmth = (beyond[..., column] for column in range(4))
    thermal = np.broadcast_to(0.4 * warmth, nir.shape)
    bands = [blue, green, red, red + edge * (nir - red), nir, first * nir, second * nir, thermal]
    return np.stack([np.asarray(band, np.float32) for band in bands], axis=-1)
