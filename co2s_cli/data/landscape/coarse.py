"""The landscape in eight bands and at coarser ground resolutions, with mixed pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.data.landscape.look import Look, look
from co2s_cli.data.landscape.noise import Field, Floats
from co2s_cli.data.landscape.palette import GRAIN, TINTS, Material
from co2s_cli.data.landscape.plan import LandscapePlan
from co2s_cli.data.landscape.sensor import MARGIN, relief, shadows
from co2s_cli.data.landscape.spectrum import SPECTRUM, spectrum
from co2s_cli.data.landscape.surface import Frame, survey

COVERS: dict[str, tuple[Material, ...]] = {
    "building": (Material.TILE_ROOF, Material.SLATE_ROOF, Material.FLAT_ROOF, Material.METAL_ROOF),
    "road": (Material.ASPHALT, Material.MARKING, Material.ROAD_CAR),
    "pavement": (Material.CONCRETE, Material.PARKING, Material.PAVING, Material.STALL, Material.YARD_CAR),
    "grass": (Material.GRASS, Material.MEADOW),
    "tree": (Material.CROWN, Material.UNDERGROWTH),
    "green crop": (Material.CROP_GREEN, Material.CROP_YOUNG, Material.CROP_BLOOM),
    "ripe crop": (Material.CROP_RIPE,),
    "soil": (Material.PLOUGHED,),
    "sand": (Material.SAND, Material.GRAVEL),
    "water": (Material.RIVER, Material.LAKE, Material.POOL),
}
"""Land covers, from which legends are composed → their materials."""

_COVER_OF: NDArray[np.uint8] = np.array(
    [next(i for i, members in enumerate(COVERS.values()) if material in members) for material in Material], np.uint8
)


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the landscape with its illumination, at the full resolution."""

    cover: NDArray[np.uint8]
    """(h, w) index of the land cover in `COVERS`."""
    shade: NDArray[np.intp]
    """(h, w) row of `colors` for the material and tint."""
    colors: Floats
    """(materials × tints, 8) reflectance in the bands of `SPECTRUM`."""
    light: Floats
    """(h, w) brightness from slope, grain and depth of water."""
    dark: NDArray[np.bool_]
    """(h, w) True in shadows."""
    ambient: Floats
    """(8,) share of each band's light that reaches shadows."""

    @classmethod
    def of(cls, seed: int, frame: Frame) -> Region:
        """The landscape of `seed` in `frame`, without the frame's `MARGIN`."""
        scene_look = look(seed)
        surface = survey(LandscapePlan(seed, scene_look), frame)
        inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
        material = surface.material[inner]
        light = relief(surface.height, scene_look)[inner] * (1 + frame.texture()[inner] * GRAIN.take(material))
        light *= 1 + np.float32(0.05) * Field(seed * 64 + 52, 2600).grid(frame.y[inner[0]], frame.x[inner[1]])
        light -= np.float32(0.35) * surface.depth[inner] * light
        return cls(
            cover=_COVER_OF.take(material),
            shade=material.astype(np.intp) * TINTS + surface.tint[inner],
            colors=spectrum(scene_look.colors, np.random.default_rng([seed, 3])).reshape(-1, len(SPECTRUM)),
            light=light,
            dark=shadows(surface.height, scene_look)[inner],
            ambient=_ambient(scene_look),
        )

    def pixels(self, factor: int) -> Floats:
        """Coarser pixels (8, h / factor, w / factor), each the mean of `factor` × `factor` full-resolution pixels."""
        rows, cols = (side // factor for side in self.cover.shape)
        out = np.empty((len(SPECTRUM), rows, cols), np.float32)
        for band, name in enumerate(SPECTRUM):
            value = self.colors[:, band].take(self.shade)
            if name == "thermal":  # does not depend on sunlight, except that shadows are a little cooler
                value *= np.where(self.dark, np.float32(0.85), np.float32(1))
            else:
                value *= self.light
                value *= np.where(self.dark, self.ambient[band], np.float32(1))
            out[band] = means(value, factor)
        return out

    def shares(self, factor: int) -> Floats:
        """Share (covers, h / factor, w / factor) of each land cover in each coarser pixel."""
        return np.stack([means((self.cover == i).astype(np.float32), factor) for i in range(len(COVERS))])


def means(values: Floats, factor: int) -> Floats:
    """Means (h / factor, w / factor) of squares of `factor` × `factor` values."""
    rows, cols = (side // factor for side in values.shape)
    squares: Floats = values[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor).mean(axis=(1, 3))
    return squares


def _ambient(scene_look: Look) -> Floats:
    """The shares of light in shadows, extended from four bands to those of `SPECTRUM`."""
    red, green, blue, nir = scene_look.ambient
    return np.array([blue, green, red, (red + nir) / 2, nir, nir * 0.9, nir * 0.8, 1], np.float32)
