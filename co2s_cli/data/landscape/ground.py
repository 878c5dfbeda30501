"""The ground as flat arrays over n pixels, and functions that paint trees, roads and cars on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from co2s_cli.data.landscape.noise import Floats, chance, uniform
from co2s_cli.data.landscape.palette import TINTS, Material

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class GroundCover:
    """Material, tint and height of each of n pixels; its methods paint in place."""

    material: NDArray[np.uint8]
    """(n,) `Material` of each pixel."""
    tint: NDArray[np.uint8]
    """(n,) shade of the material, below `TINTS`."""
    height: Floats
    """(n,) height of the surface above the ground, in pixels."""
    street: Mask
    """(n,) True on main roads, which cross water as bridges."""

    @classmethod
    def empty(cls, count: int) -> GroundCover:
        """Flat grass at `count` pixels."""
        material = np.full(count, Material.GRASS, dtype=np.uint8)
        return cls(material, np.zeros(count, np.uint8), np.zeros(count, np.float32), np.zeros(count, np.bool_))

    def cover(self, material: Material, tint: ArrayLike) -> None:
        """Paint all pixels flat with one material; `tint`, one or one per pixel, is clipped to [0, 1)."""
        self.material[:] = material
        self.tint[:] = (np.clip(tint, 0, 0.999) * TINTS).astype(np.uint8)
        self.height[:] = 0

    def paint(self, where: Mask | Indices, material: Material, tint: ArrayLike, height: ArrayLike = 0.0) -> None:
        """Paint the pixels `where`; `tint` in [0, 1) and `height` are single values or one per painted pixel."""
        at = np.flatnonzero(where) if where.dtype == np.bool_ else where
        self.material[at] = material
        self.tint[at] = (np.asarray(tint) * TINTS).astype(np.uint8)
        self.height[at] = height

    def take(self, at: Indices) -> GroundCover:
        """A copy of the pixels `at`."""
        return GroundCover(self.material.take(at), self.tint.take(at), self.height.take(at), self.street.take(at))

    def put(self, at: Indices, part: GroundCover) -> None:
        """Set the pixels `at` to those of `part`."""
        self.material[at], self.tint[at] = part.material, part.tint
        self.height[at], self.street[at] = part.height, part.street


@dataclass(frozen=True, slots=True)
class Nature:
    """Random natural fields at the same n pixels as a `GroundCover`."""

    crown: Floats
    """(n,) height in [0, 1] of a closed forest canopy."""
    tree: Floats
    """(n,) random value in [0, 1) of the tree that the pixel belongs to."""
    grain: Floats
    """(n,) mottled texture with standard deviation 1."""
    patch: Floats
    """(n,) smooth field with structures of about 100 m, standard deviation 1."""

    def take(self, at: Indices) -> Nature:
        """The pixels `at`."""
        return Nature(self.crown.take(at), self.tree.take(at), self.grain.take(at), self.patch.take(at))


@dataclass(frozen=True, slots=True)
class Cells:
    """A district divided into equal cells, each with random numbers of its own, at n pixels."""

    seed: int
    size: tuple[float, float]
    """Width and length of a cell in pixels."""
    shape: tuple[int, int]
    """Number of cells across and along the district."""
    index: Indices
    """(n,) flat number of the cell in which each pixel lies."""
    p: Floats
    """(n,) offset across the district from the centre of the cell."""
    q: Floats
    """(n,) offset along the district from the centre of the cell."""
    dry: Mask
    """(n,) True for cells well away from water."""

    def draw(self, number: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """(n,) random value of each pixel's cell, uniform in [low, high); `number` numbers a cell's random values."""
        draws = uniform(self.seed, number, np.arange(self.shape[0] * self.shape[1]))
        return (draws * np.float32(high - low) + np.float32(low)).take(self.index)

    def true(self, number: int, share: float) -> Mask:
        """(n,) True for the pixels of a random `share` of the cells; `number` as for `draw`."""
        return self.draw(number) < share

    @property
    def edge(self) -> Floats:
        """(n,) distance to the border of the cell."""
        return np.minimum(self.size[0] / 2 - np.abs(self.p), self.size[1] / 2 - np.abs(self.q)).astype(np.float32)


def trees(ground: GroundCover, nature: Nature, where: Mask, share: float, tall: float) -> None:
    """Paint a `share` of the forest's trees inside `where`, up to `tall` pixels high."""
    at = np.flatnonzero(where & (nature.tree < share) & (nature.crown > 0.3))
    ground.paint(at, Material.CROWN, nature.tree.take(at) / np.float32(share), nature.crown.take(at) * tall)


@dataclass(frozen=True, slots=True)
class RoadKind:
    """The cross-section of a road, in pixels."""

    half: float
    """Half the width of the carriageway."""
    walk: float
    """Width of the pavement on each side."""
    lines: bool
    """Whether the road has markings."""
    cars: float
    """Share of the `_CAR_SPACING` sections of each lane that hold a car."""


AVENUE = RoadKind(half=11, walk=5, lines=True, cars=0.2)
ROAD = RoadKind(half=8, walk=4, lines=True, cars=0.12)
LANE = RoadKind(half=7, walk=0, lines=True, cars=0.06)
STREET = RoadKind(half=5.5, walk=3, lines=False, cars=0.05)

_CAR_SPACING = 38.0
"""Length in pixels of a road section that holds at most one car per lane."""


def road(ground: GroundCover, across: Floats, along: Floats, kind: RoadKind, seed: int) -> Indices:
    """Paint a road with its markings and cars; return the indices of the pixels that it covers.

    `across` (n,) is each pixel's signed distance from the centre line, `along` (n,) its position along the road.
    """
    at = np.flatnonzero(np.abs(across) < kind.half + kind.walk)
    if at.size:
        signed_distance, position = across.take(at), along.take(at)
        distance = np.abs(signed_distance)
        tint = chance(seed, 1)
        # a pavement does not cover the asphalt of side roads
        pavement = (distance >= kind.half) & (ground.material.take(at) != Material.ASPHALT)
        ground.paint(at[pavement], Material.PAVING, tint)
        ground.paint(at[distance < kind.half], Material.ASPHALT, tint)
        if kind.lines:
            dashes = (distance < 0.8) & (np.mod(position, 26) < 11)
            ground.paint(at[dashes | (np.abs(distance - kind.half + 1.6) < 0.6)], Material.MARKING, tint)
        car, paint = _cars(signed_distance, position, kind, seed)
        ground.paint(at[car], Material.ROAD_CAR, paint[car], 2.5)
    return at


def _cars(signed_distance: Floats, position: Floats, kind: RoadKind, seed: int) -> tuple[Mask, Floats]:
    """(n,) True where a car is on one of the two lanes, and (n,) the tint of the car in [0, 1)."""
    section = np.floor(position / np.float32(_CAR_SPACING))
    first = int(section.min())
    numbers = np.arange(first, int(section.max()) + 1)
    draw = uniform(seed, 7, np.stack([numbers * 2, numbers * 2 + 1]))[
        (signed_distance > 0).astype(np.intp), section.astype(int) - first
    ]
    shift = (draw / np.float32(kind.cars) - np.float32(0.5)) * np.float32(24)
    from_car = np.abs(position - (section + np.float32(0.5)) * np.float32(_CAR_SPACING) - shift)
    is_car = (draw < kind.cars) & (np.abs(np.abs(signed_distance) - kind.half / 2) < 1.9) & (from_car < 4.4)
    return is_car, np.mod(draw * np.float32(977), 1)
