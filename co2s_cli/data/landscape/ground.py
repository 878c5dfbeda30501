"""The surface of a part of the land as flat lists of pixels, and the strokes that paint on it."""

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
    """What lies at each of n pixels; strokes overwrite it in place."""

    material: NDArray[np.uint8]
    tint: NDArray[np.uint8]
    """Shade of the material, below `TINTS`."""
    height: Floats
    """Height of the surface in pixels above the ground."""
    street: Mask
    """True on main roads, which cross water as bridges."""

    @classmethod
    def empty(cls, count: int) -> GroundCover:
        """Flat grass."""
        material = np.full(count, Material.GRASS, dtype=np.uint8)
        return cls(material, np.zeros(count, np.uint8), np.zeros(count, np.float32), np.zeros(count, np.bool_))

    def cover(self, material: Material, tint: ArrayLike) -> None:
        """Start afresh with one material everywhere; `tint` (one, or one per pixel) is cut to [0, 1)."""
        self.material[:] = material
        self.tint[:] = (np.clip(tint, 0, 0.999) * TINTS).astype(np.uint8)
        self.height[:] = 0

    def paint(self, where: Mask | Indices, material: Material, tint: ArrayLike, height: ArrayLike = 0.0) -> None:
        """Cover the pixels `where`; `tint` in [0, 1) and `height` are one for all or one for each of them."""
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
    """What grows or lies anywhere, at the same n pixels as a `GroundCover`."""

    crown: Floats
    """Height in [0, 1] of closed forest."""
    tree: Floats
    """A value in [0, 1) per tree of it."""
    grain: Floats
    """Mottled texture, deviation 1."""
    patch: Floats
    """A smooth surface with hills of some 100 m, deviation 1."""

    def take(self, at: Indices) -> Nature:
        """The pixels `at`."""
        return Nature(self.crown.take(at), self.tree.take(at), self.grain.take(at), self.patch.take(at))


@dataclass(frozen=True, slots=True)
class Cells:
    """A district cut into equal cells, each with draws of its own."""

    seed: int
    size: tuple[float, float]
    """Width and length of a cell in pixels."""
    shape: tuple[int, int]
    """Cells across and along the district."""
    index: Indices
    """Flat number (n,) of the cell in which each pixel lies."""
    p: Floats
    """Offset (n,) across the district from the middle of the cell."""
    q: Floats
    """Offset (n,) along the district from the middle of the cell."""
    dry: Mask
    """True (n,) on cells that lie well away from water."""

    def draw(self, number: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """Draw `number` of each pixel's cell (n,), uniform in [low, high)."""
        draws = uniform(self.seed, number, np.arange(self.shape[0] * self.shape[1]))
        return (draws * np.float32(high - low) + np.float32(low)).take(self.index)

    def true(self, number: int, share: float) -> Mask:
        """True for the pixels (n,) of a `share` of the cells."""
        return self.draw(number) < share

    @property
    def edge(self) -> Floats:
        """Distance (n,) to the border of the cell."""
        return np.minimum(self.size[0] / 2 - np.abs(self.p), self.size[1] / 2 - np.abs(self.q)).astype(np.float32)


def trees(ground: GroundCover, nature: Nature, where: Mask, share: float, tall: float) -> None:
    """Plant a `share` of the forest's trees where allowed, up to `tall` pixels high."""
    at = np.flatnonzero(where & (nature.tree < share) & (nature.crown > 0.3))
    ground.paint(at, Material.CROWN, nature.tree.take(at) / np.float32(share), nature.crown.take(at) * tall)


@dataclass(frozen=True, slots=True)
class RoadKind:
    """The cross-section of a road, in pixels."""

    half: float
    walk: float
    """Width of the pavement on each side."""
    lines: bool
    cars: float
    """Share of the places on each lane that hold a car."""


AVENUE = RoadKind(half=11, walk=5, lines=True, cars=0.2)
ROAD = RoadKind(half=8, walk=4, lines=True, cars=0.12)
LANE = RoadKind(half=7, walk=0, lines=True, cars=0.06)
STREET = RoadKind(half=5.5, walk=3, lines=False, cars=0.05)

_PLACE = 38.0
"""Length of road that holds at most one car a lane."""


def road(ground: GroundCover, across: Floats, along: Floats, kind: RoadKind, seed: int) -> Indices:
    """Draw a road, and give the pixels that it covers.

    `across` is the signed distance from its middle, `along` the way on it, one each per pixel.
    """
    at = np.flatnonzero(np.abs(across) < kind.half + kind.walk)
    if at.size:
        d, way = across.take(at), along.take(at)
        off = np.abs(d)
        tint = chance(seed, 1)
        beside = (off >= kind.half) & (ground.material.take(at) != Material.ASPHALT)  # side roads come through
        ground.paint(at[beside], Material.PAVING, tint)
        ground.paint(at[off < kind.half], Material.ASPHALT, tint)
        if kind.lines:
            dashes = (off < 0.8) & (np.mod(way, 26) < 11)
            ground.paint(at[dashes | (np.abs(off - kind.half + 1.6) < 0.6)], Material.MARKING, tint)
        car, paint = _cars(d, way, kind, seed)
        ground.paint(at[car], Material.ROAD_CAR, paint[car], 2.5)
    return at


def _cars(d: Floats, way: Floats, kind: RoadKind, seed: int) -> tuple[Mask, Floats]:
    """Where cars are on the two lanes, and the colour of the car, if any, at each pixel."""
    place = np.floor(way / np.float32(_PLACE))
    first = int(place.min())
    numbers = np.arange(first, int(place.max()) + 1)
    draw = uniform(seed, 7, np.stack([numbers * 2, numbers * 2 + 1]))[
        (d > 0).astype(np.intp), place.astype(int) - first
    ]
    shift = (draw / np.float32(kind.cars) - np.float32(0.5)) * np.float32(24)
    ahead = np.abs(way - (place + np.float32(0.5)) * np.float32(_PLACE) - shift)
    here = (draw < kind.cars) & (np.abs(np.abs(d) - kind.half / 2) < 1.9) & (ahead < 4.4)
    return here, np.mod(draw * np.float32(977), 1)
