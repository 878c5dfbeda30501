"""The plan of a landscape: the positions of roads, of the districts between them, and of water."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from co2s_cli.data.landscape.districts import BUILDERS, District
from co2s_cli.data.landscape.ground import (
    AVENUE,
    LANE,
    ROAD,
    Cells,
    GroundCover,
    Indices,
    Mask,
    Nature,
    RoadKind,
    road,
)
from co2s_cli.data.landscape.look import KINDS, Look
from co2s_cli.data.landscape.noise import Field, Floats, Places, chance, uniform

_STRIP, _DISTRICT = 430.0, 480.0
"""Mean distance in pixels of the through roads, and of the borders of districts between two of them."""
_BEND = 55.0
"""Standard deviation in pixels of the roads from straight lines."""
_BANK = 46.0
"""Least distance of buildings from water, in pixels."""
_URBAN = ("homes", "works", "centre")


class _Draw(IntEnum):
    """Streams of random numbers, by their purpose."""

    RIVER = 21
    LAKE = 22
    BEND_U = 31
    BEND_V = 32
    DISTRICT = 41
    THROUGH = 42
    OFFSET = 43
    BORDER = 44
    TOWN = 45
    KIND = 46
    AVENUE = 47
    LANE = 48


_SPACING = {_Draw.RIVER: 560.0, _Draw.LAKE: 300.0, _Draw.BEND_U: 420.0, _Draw.BEND_V: 420.0, _Draw.TOWN: 3.2}
"""Spacing of each random field: for towns in districts, for the others in pixels."""


@dataclass(frozen=True, slots=True)
class DistrictBlock:
    """The extent of one district in road coordinates (u across, v along the through roads)."""

    strip: int
    """Number of the strip between two through roads."""
    number: int
    """Number of the district in its strip."""
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class LandscapePlan:
    """The plan of one seed; every query depends only on the seed, the look and the position."""

    seed: int
    look: Look

    def water(self, y: Places, x: Places) -> tuple[Floats, Floats]:
        """Distances (len(y), len(x)) in pixels from the nearest river and from the nearest lake, negative on water."""
        return _river(*self._field(_Draw.RIVER).sloped(y, x)), _lake(*self._field(_Draw.LAKE).sloped(y, x))

    def along_roads(self, y: Places, x: Places) -> tuple[Floats, Floats]:
        """Road coordinates u and v, each (len(y), len(x)), in which roads are straight lines."""
        cos, sin = np.cos(self.look.turn), np.sin(self.look.turn)
        u = self._field(_Draw.BEND_U).grid(y, x) * np.float32(_BEND)
        v = self._field(_Draw.BEND_V).grid(y, x) * np.float32(_BEND)
        u += (x * cos).astype(np.float32) + (y * sin).astype(np.float32)[:, None]
        v += (x * -sin).astype(np.float32) + (y * cos).astype(np.float32)[:, None]
        return u, v

    def blocks(self, u: Floats, v: Floats) -> Iterator[tuple[DistrictBlock, Indices]]:
        """Every district that contains some of the n points (u, v), and the indices of those points."""
        lines = self._through_lines(u)
        strip = np.searchsorted(lines[:, 1], u)
        for k in range(1, len(lines)):
            in_strip = np.flatnonzero(strip == k)
            if not in_strip.size:
                continue
            number, left, right = int(lines[k - 1, 0]), lines[k - 1, 1], lines[k, 1]
            strip_v = v.take(in_strip)
            borders = self._borders(number, strip_v)
            row = np.searchsorted(borders[:, 1], strip_v)
            for j in range(1, len(borders)):
                in_block = in_strip[row == j]
                if in_block.size:
                    top, bottom = borders[j - 1 : j + 1, 1]
                    yield DistrictBlock(number, int(borders[j - 1, 0]), left, right, top, bottom), in_block

    def build(self, block: DistrictBlock, u: Floats, v: Floats, nature: Nature) -> GroundCover:
        """The ground of one district with its roads, at n of its points (u, v)."""
        ground = GroundCover.empty(u.size)
        a, b = u - np.float32(block.left), v - np.float32(block.top)
        seed = int(chance(self.seed, _Draw.DISTRICT, block.strip, block.number) * 2**24)

        def cells(width: float, length: float) -> Cells:
            return self._cells(block, seed, (a, b), (width, length))

        size = block.right - block.left, block.bottom - block.top
        BUILDERS[self.kind(block.strip, block.number)](District(seed, *size, a, b, nature, cells), ground)
        for step, across in ((0, b), (1, b - np.float32(size[1]))):
            cross = self._cross_road(block.strip, block.number + step)
            if cross:
                ground.street[road(ground, across, a, cross, self.seed + 7919 * block.strip + block.number + step)] = (
                    True
                )
        for step, across in ((0, a), (1, a - np.float32(size[0]))):
            through = self._through_road(block.strip + step)
            ground.street[road(ground, across, v, through, self.seed + 104729 * (block.strip + step))] = True
        return ground

    def kind(self, strip: int, number: int) -> str:
        """Kind (land use) of a district; towns and open country are each about a kilometre wide."""
        town = self._field(_Draw.TOWN).points(np.array([float(number)]), np.array([float(strip)]))[0]
        pull = np.array([np.exp((0.5 if kind in _URBAN else -0.3) * town) for kind in KINDS])
        share = np.cumsum(self.look.kinds * pull)
        # steps from the plastic number make neighbouring districts differ, so that even small scenes have all kinds
        draw = (
            chance(self.seed, _Draw.KIND)
            + 0.7549 * strip
            + 0.5698 * number
            + 0.15 * chance(self.seed, _Draw.KIND, strip, number)
        )
        return KINDS[min(int(np.searchsorted(share, draw % 1 * share[-1])), len(KINDS) - 1)]

    def _cells(
        self, block: DistrictBlock, seed: int, position: tuple[Floats, Floats], cell_size: tuple[float, float]
    ) -> Cells:
        """The district divided into cells of about `cell_size`; `position` (n,) is across and along the district."""
        size = block.right - block.left, block.bottom - block.top
        shape = max(round(size[0] / cell_size[0]), 1), max(round(size[1] / cell_size[1]), 1)
        width, length = size[0] / shape[0], size[1] / shape[1]
        i = np.clip(np.floor(position[0] / np.float32(width)), 0, shape[0] - 1)
        j = np.clip(np.floor(position[1] / np.float32(length)), 0, shape[1] - 1)
        p = position[0] - (i + np.float32(0.5)) * np.float32(width)
        q = position[1] - (j + np.float32(0.5)) * np.float32(length)
        u, v = np.meshgrid((np.arange(shape[0]) + 0.5) * width, (np.arange(shape[1]) + 0.5) * length, indexing="ij")
        dry = self._dry(block.left + u.ravel(), block.top + v.ravel(), _BANK + 0.42 * max(cell_size))
        index = (i * shape[1] + j).astype(np.intp)
        return Cells(seed, (width, length), shape, index, p, q, dry.take(index))

    def _dry(self, u: Places, v: Places, distance: float) -> Mask:
        """(n,) True for points (u, v) farther than `distance` from water."""
        cos, sin = np.cos(self.look.turn), np.sin(self.look.turn)
        x, y = u * cos - v * sin, u * sin + v * cos
        for _ in range(4):  # inverts `along_roads` by fixed-point iteration, which converges as the bends are gentle
            straight_u = u - self._field(_Draw.BEND_U).points(y, x) * _BEND
            straight_v = v - self._field(_Draw.BEND_V).points(y, x) * _BEND
            x, y = straight_u * cos - straight_v * sin, straight_u * sin + straight_v * cos
        river = _river(*self._field(_Draw.RIVER).sloped_points(y, x))
        return np.minimum(river, _lake(*self._field(_Draw.LAKE).sloped_points(y, x))) > distance

    def _through_lines(self, u: Floats) -> Places:
        """(k, 2): number and u of each through road, from left of all points `u` to right of them."""
        numbers = np.arange(int(np.floor(u.min() / _STRIP)) - 1, int(np.floor(u.max() / _STRIP)) + 3)
        jitter = uniform(self.seed, _Draw.THROUGH, numbers) - 0.5
        return np.stack([numbers, (numbers + 0.6 * jitter) * _STRIP], axis=1)

    def _borders(self, strip: int, v: Floats) -> Places:
        """(k, 2): number and v of each border of districts in a strip, from above all points `v` to below them."""
        offset = chance(self.seed, _Draw.OFFSET, strip)
        first, last = np.floor(np.array([v.min(), v.max()]) / _DISTRICT - offset).astype(int)
        numbers = np.arange(first - 1, last + 3)
        jitter = uniform(self.seed, _Draw.BORDER, strip, numbers) - 0.5
        return np.stack([numbers, (numbers + offset + 0.56 * jitter) * _DISTRICT], axis=1)

    def _through_road(self, line: int) -> RoadKind:
        return AVENUE if chance(self.seed, _Draw.AVENUE, line) < 0.35 else ROAD

    def _cross_road(self, strip: int, border: int) -> RoadKind | None:
        """The road on the upper border of district number `border`; between rural districts there may be none."""
        if any(self.kind(strip, number) in _URBAN for number in (border - 1, border)):
            return ROAD
        return LANE if chance(self.seed, _Draw.LANE, strip, border) < 0.75 else None

    def _field(self, draw: _Draw) -> Field:
        return Field(self.seed * 64 + draw, _SPACING[draw])


def _river(value: Floats, steep: Floats) -> Floats:
    # rivers follow a level line of a smooth field: distance = value / slope, with a lower limit of the slope at saddles
    distance: Floats = np.divide(np.abs(value - np.float32(0.35)), np.maximum(steep, np.float32(0.0012)))
    distance -= np.float32(26)
    return distance


def _lake(value: Floats, steep: Floats) -> Floats:
    distance: Floats = np.divide(np.float32(1.75) - value, np.maximum(steep, np.float32(0.002)))
    return distance
