"""The surface of a square of the landscape: districts and roads of the plan, then water, shores and bridges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.data.landscape.ground import GroundCover, Nature
from co2s_cli.data.landscape.noise import Field, Floats, Places, canopy, grain, repeated
from co2s_cli.data.landscape.palette import Material
from co2s_cli.data.landscape.plan import LandscapePlan

_BRIDGE = 5.0
"""Height of a bridge above the water, in pixels."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A square of the plane, in pixels."""

    row: int
    col: int
    size: int

    @property
    def y(self) -> Places:
        """(size,) centre of each row."""
        return np.arange(self.row, self.row + self.size, dtype=np.float64) + 0.5

    @property
    def x(self) -> Places:
        """(size,) centre of each column."""
        return np.arange(self.col, self.col + self.size, dtype=np.float64) + 0.5

    def texture(self) -> Floats:
        """(size, size) mottled texture of all surfaces in the frame."""
        return repeated(grain(), self.row, self.col, self.size)


@dataclass(frozen=True, slots=True)
class Surface:
    """Material, tint, height and depth of water at each pixel (h, w) of a frame."""

    material: NDArray[np.uint8]
    tint: NDArray[np.uint8]
    height: Floats
    """Height above the ground in pixels."""
    depth: Floats
    """Depth of water: 0 on land and at the shore, 1 in deep water."""


def survey(plan: LandscapePlan, frame: Frame) -> Surface:
    """The surface of a frame; a pixel's surface depends only on its position in the plane, not on the frame."""
    river, lake = (distance.ravel() for distance in plan.water(frame.y, frame.x))
    u, v = (coordinate.ravel() for coordinate in plan.along_roads(frame.y, frame.x))
    nature = _nature(plan.seed, frame)
    ground = GroundCover.empty(u.size)
    for block, at in plan.blocks(u, v):
        ground.put(at, plan.build(block, u.take(at), v.take(at), nature.take(at)))
    _flood(ground, river, lake, nature)
    shape = frame.size, frame.size
    depth = np.clip(np.minimum(river, lake) * np.float32(-1 / 40), 0, 1)
    return Surface(
        ground.material.reshape(shape), ground.tint.reshape(shape), ground.height.reshape(shape), depth.reshape(shape)
    )


def _nature(seed: int, frame: Frame) -> Nature:
    # the maximum of two periodic forests with different periods, which together repeat only after kilometres
    (fir_table, fir_numbers), (oak_table, oak_numbers) = canopy(512, 37), canopy(448, 24)
    fir = repeated(fir_table, frame.row, frame.col, frame.size)
    oak = repeated(oak_table, frame.row + 191, frame.col + 57, frame.size)
    fir_number = repeated(fir_numbers, frame.row, frame.col, frame.size)
    oak_number = repeated(oak_numbers, frame.row + 191, frame.col + 57, frame.size)
    tree = np.where(oak > fir, oak_number, fir_number) * np.float32(1 / 256)
    patch = Field(seed * 64 + 51, 95).grid(frame.y, frame.x)
    return Nature(np.maximum(fir, oak).ravel(), tree.ravel(), frame.texture().ravel(), patch.ravel())


def _flood(ground: GroundCover, river: Floats, lake: Floats, nature: Nature) -> None:
    """Paint water, its shores and the plants on its banks; main roads are kept, as bridges.

    `river` and `lake` (n,) are distances in pixels, negative on water.
    """
    distance = np.minimum(river, lake) + nature.grain * np.float32(0.6)
    near = np.flatnonzero((distance < 46) & ~ground.street)
    near_distance, bank = distance.take(near), nature.take(near)
    shore = np.maximum(7 + 6 * bank.patch, 0)
    green = (near_distance > shore) & (near_distance < 34 + 8 * bank.patch)
    ground.paint(near[green], Material.MEADOW, 0.2, 0.2)
    tree = (near_distance > shore) & (near_distance < 34) & (bank.tree < 0.5) & (bank.crown > 0.3)
    ground.paint(near[tree], Material.CROWN, bank.tree[tree] * np.float32(1.99), bank.crown[tree] * 15)
    ground.paint(near[(near_distance > 0) & (near_distance <= shore)], Material.SAND, 0.5)
    wet = near_distance <= 0
    flowing = river.take(near) < lake.take(near)
    ground.paint(near[wet & flowing], Material.RIVER, 0.5)
    ground.paint(near[wet & ~flowing], Material.LAKE, 0.5)
    ground.height[ground.street & (np.minimum(river, lake) < 3)] += _BRIDGE
