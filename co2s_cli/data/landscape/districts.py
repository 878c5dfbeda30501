"""Paint the districts by land use: fields, homes, works, town centre, forest, park, quarry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from co2s_cli.data.landscape.ground import STREET, Cells, GroundCover, Mask, Nature, road, trees
from co2s_cli.data.landscape.noise import Floats, chance, uniform
from co2s_cli.data.landscape.palette import Material

_CROPS = (Material.CROP_GREEN, Material.CROP_YOUNG, Material.CROP_RIPE, Material.CROP_BLOOM, Material.MEADOW)
_ROOFS = (Material.TILE_ROOF, Material.SLATE_ROOF, Material.FLAT_ROOF)


@dataclass(frozen=True, slots=True)
class District:
    """The land between four roads, at n of its pixels. Across is from left to right, along from top to bottom."""

    seed: int
    width: float
    length: float
    a: Floats
    """(n,) distance across from the road on the left, 0 … width."""
    b: Floats
    """(n,) distance along from the road or border above, 0 … length."""
    nature: Nature
    cells: Callable[[float, float], Cells]
    """Divides the district into cells of about the given width and length."""

    def chance(self, draw: int) -> float:
        """Random number in [0, 1) of the district; `draw` numbers its random numbers."""
        return chance(self.seed, 100 + draw)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, such as a house, for each of n pixels (that of the pixel's cell)."""

    p: Floats
    """(n,) offset across of the pixel from the rectangle's centre."""
    q: Floats
    """(n,) offset along of the pixel from the rectangle's centre."""
    a: Floats
    """(n,) half the rectangle's width."""
    b: Floats
    """(n,) half the rectangle's length."""

    @property
    def inside(self) -> Mask:
        """(n,) True for pixels inside the rectangle."""
        return (np.abs(self.p) < self.a) & (np.abs(self.q) < self.b)

    def gable(self, eaves: Floats) -> Floats:
        """(n,) height of a gabled roof on the rectangle, with the ridge along its longer side; 0 outside."""
        rise = np.where(self.a > self.b, self.b - np.abs(self.q), self.a - np.abs(self.p))
        return np.where(self.inside, eaves + rise * np.float32(0.6), np.float32(0))


def farm(d: District, ground: GroundCover) -> None:
    """Parcels with one crop each, crop rows and tramlines; grass and hedges between them, some orchards."""
    parcels = _parcels(d)
    _sow(d, ground, parcels)
    _plant_orchards(ground, parcels)
    border = parcels.edge < parcels.draw(3, 0.5, 4)
    ground.paint(border, Material.MEADOW, 0.3, 0.2)
    trees(ground, d.nature, border & parcels.true(4, 0.3), 0.9, 9)
    if d.chance(4) < 0.5:
        ground.paint(np.abs(parcels.q + parcels.size[1] / 2 - 3) < 2.5, Material.GRAVEL, d.chance(5))


def _parcels(d: District) -> Cells:
    """The parcels as cells: slanting strips in rows that are shifted against each other, cut off at the roads."""
    slant = np.float32((d.chance(1) - 0.5) * 0.7)
    wide, long = np.float32(90 + 110 * d.chance(2)), np.float32(190 + 170 * d.chance(3))
    row = np.floor(d.b / long)
    strip = (d.a + (d.b - np.float32(d.length / 2)) * slant) / wide + row * np.float32(0.37)
    column = np.floor(strip)
    p, q = (strip - column - np.float32(0.5)) * wide, d.b - (row + np.float32(0.5)) * long
    index = (column + 20 + 60 * (row + 1)).astype(np.intp)
    return Cells(d.seed, (float(wide), float(long)), (60, 60), index, p, q, np.ones(p.size, np.bool_))


def _sow(d: District, ground: GroundCover, parcels: Cells) -> None:
    """Cover the parcels with crops in rows, with wheel tracks."""
    across_rows = np.where(parcels.true(5, 0.25), parcels.q, parcels.p)
    rows = np.sin(across_rows * (np.float32(2 * np.pi) / parcels.draw(6, 3.4, 6.5)))
    lush = d.nature.patch * np.float32(0.10) + d.nature.grain * np.float32(0.03)
    wheel_tracks = np.abs(np.abs(np.mod(across_rows, 44) - 22) - np.float32(2.5)) < 0.7
    ground.cover(Material.MEADOW, parcels.draw(2) + lush + rows * np.float32(0.10) - wheel_tracks * np.float32(0.4))
    ground.material[:] = np.array([*_CROPS, *[Material.PLOUGHED] * 3], np.uint8).take(
        (parcels.draw(1) * 8).astype(np.intp)
    )
    ground.height[:] = rows * np.float32(0.25)


def _plant_orchards(ground: GroundCover, parcels: Cells) -> None:
    """Replace the crops of some parcels by a lattice of trees."""
    at = np.flatnonzero(parcels.true(7, 0.09))
    u, v = np.mod(parcels.p.take(at), 13) - np.float32(6.5), np.mod(parcels.q.take(at), 11) - np.float32(5.5)
    crown = 1 - (u * u + v * v) * np.float32(1 / 17)
    tint = parcels.draw(2).take(at)
    ground.paint(at, Material.GRASS, tint)
    tree = crown > 0
    ground.paint(at[tree], Material.CROWN, tint[tree], crown[tree] * 7)


def homes(d: District, ground: GroundCover) -> None:
    """Streets with lots along them: a house, a drive, a garden, sometimes a pool."""
    lots = d.cells(62, 76)
    ground.cover(Material.GRASS, lots.draw(1))
    from_street = _from_street(lots)
    t = np.abs(from_street)
    house = Box(lots.p - lots.draw(5, -8, 8), t - lots.draw(6, 29, 36), lots.draw(3, 11, 16), lots.draw(4, 8.5, 12))
    around = Box(house.p, house.q, house.a + 4, house.b + 4)
    trees(ground, d.nature, (t > 13) & ~around.inside, 0.15 + 0.3 * d.chance(2), 13)
    hedge = ((lots.size[0] / 2 - np.abs(lots.p) < 1.6) & (t > 14)) | (t > lots.size[1] - 1.6)
    ground.paint(hedge & lots.true(7, 0.7), Material.CROWN, 0.2, 4)
    built = lots.dry & lots.true(2, 0.93)
    drive = (np.abs(house.p - house.a + 4) < 3.5) & (house.q < 0)
    terrace = Box(house.p, house.q - house.b - 3, house.a * np.float32(0.6), np.full_like(t, 4)).inside
    ground.paint(built & (drive | terrace), Material.PAVING, d.chance(3))
    pool = _oval(house.p, house.q - house.b - 17, 7.5, 4.5) < 1
    ground.paint(built & pool & lots.true(9, 0.14), Material.POOL, 0.5)
    _build_house(ground, lots, built, house)
    _streets_between(d, ground, lots, from_street)


def _build_house(ground: GroundCover, lots: Cells, built: Mask, house: Box) -> None:
    """Paint a gabled house on each lot in `built`, on some lots with a wing."""
    eaves = lots.draw(12, 7, 11)
    wing = Box(
        house.p + house.a * np.float32(0.45),
        house.q - house.b * np.float32(0.7),
        house.a * np.float32(0.5),
        house.b * np.float32(0.85),
    )
    roof = np.maximum(house.gable(eaves), wing.gable(eaves - 1) * lots.true(11, 0.45))
    at = np.flatnonzero(built & (roof > 0))
    slate, tint = lots.true(14, 0.3).take(at), lots.draw(13).take(at)
    for material, chosen in ((Material.TILE_ROOF, ~slate), (Material.SLATE_ROOF, slate)):
        ground.paint(at[chosen], material, tint[chosen], roof.take(at)[chosen])


def _from_street(lots: Cells) -> Floats:
    """(n,) signed distance along the district from the street of the pixel's lot; a street serves two rows of lots."""
    half = np.float32(lots.size[1] / 2)
    return np.where(lots.index % lots.shape[1] % 2 == 0, lots.q + half, lots.q - half)


def _streets_between(d: District, ground: GroundCover, lots: Cells, from_street: Floats) -> None:
    """Paint the streets between the rows of lots."""
    street_number = (lots.index % lots.shape[1] + 1) // 2
    near = np.abs(from_street) < STREET.half + STREET.walk
    for number in range(1, (lots.shape[1] + 1) // 2):
        at = np.flatnonzero(near & (street_number == number))
        part = ground.take(at)
        road(part, from_street.take(at), d.a.take(at), STREET, d.seed + number)
        ground.put(at, part)


def works(d: District, ground: GroundCover) -> None:
    """Industrial halls with flat or metal roofs on paved yards, rows of parked cars, a few trees."""
    lots = d.cells(205, 185)
    ground.cover(Material.CONCRETE, lots.draw(1) + d.nature.patch * np.float32(0.05))
    ground.paint(~lots.dry, Material.GRASS, 0.6)
    wide, long = lots.size
    a, b = lots.draw(2, 0.22, 0.34) * np.float32(wide), lots.draw(3, 0.2, 0.3) * np.float32(long)
    hall = Box(lots.p - lots.draw(4, -0.12, 0.12) * np.float32(wide), lots.q + np.float32(long / 2) - b - 26, a, b)
    annex = Box(hall.p + a, hall.q + b * np.float32(0.4), a * np.float32(0.35), b * np.float32(0.5))
    edge = lots.edge
    _park_cars(ground, lots, (hall.q > b + 12) & (edge > 10) & lots.dry)
    verge = (edge < 9) & (edge > 2)
    ground.paint(verge, Material.GRASS, 0.4)
    trees(ground, d.nature, verge, 0.45, 11)
    high = lots.draw(9, 12, 19)
    _roof_hall(ground, lots, annex.inside & lots.true(8, 0.6), high * np.float32(0.6), 20)
    _roof_hall(ground, lots, hall.inside, high, 10)


def _park_cars(ground: GroundCover, lots: Cells, where: Mask) -> None:
    """Paint rows of parking stalls of 2.75 m by 5 m on both sides of lanes of 6 m; about half of them hold a car."""
    at = np.flatnonzero(where)
    ground.paint(at, Material.PARKING, lots.draw(5).take(at))
    row, column = lots.q.take(at) + 400, lots.p.take(at) + 400
    depth, across = np.mod(row, 32), np.mod(column, 5.5)
    stall = (depth < 20) & (np.mod(column, 88) > 8)
    ground.paint(at[stall & (across < 0.9)], Material.STALL, 0.5)
    number = 1000 * np.floor(row / 16) + np.floor(column / 5.5)
    draw = uniform(lots.seed, 31, np.where(depth < 10, number, -number), lots.index.take(at))
    car = stall & (np.abs(across - 3.2) < 1.75) & (np.abs(np.mod(depth, 10) - 5) < 3.9) & (draw < 0.55)
    ground.paint(at[car], Material.YARD_CAR, np.mod(draw[car] * 173, 1), 2.5)


def _roof_hall(ground: GroundCover, lots: Cells, where: Mask, high: Floats, number: int) -> None:
    """Cover the dry pixels of `where` with a flat or a metal roof with seams; `number` numbers the random numbers."""
    at = np.flatnonzero(where & lots.dry)
    seam = np.mod(lots.p.take(at) + 400, 14) < 1.2
    tint = np.maximum(lots.draw(number).take(at) - seam * np.float32(0.25), 0)
    metal = lots.true(number + 1, 0.45).take(at)
    for material, chosen in ((Material.METAL_ROOF, metal), (Material.FLAT_ROOF, ~metal)):
        ground.paint(at[chosen], material, tint[chosen], high.take(at)[chosen] + seam[chosen] * np.float32(0.6))


def centre(d: District, ground: GroundCover) -> None:
    """Blocks of a town: houses around courtyards, wide pavements, some squares with trees."""
    lots = d.cells(128, 118)
    ground.cover(Material.PAVING, lots.draw(1))
    edge = lots.edge
    ground.paint(~lots.dry & (edge > 9), Material.GRASS, 0.5)
    square = lots.true(2, 0.14) | ~lots.dry
    yard = (edge > 34) & ~square
    ground.paint(yard & lots.true(3, 0.6), Material.GRASS, 0.5)
    trees(ground, d.nature, yard, 0.25, 12)
    trees(ground, d.nature, square & (edge > 14), 0.35, 13)
    _build_block(ground, lots, edge, ~square)
    _town_streets(d, ground, lots)


def _build_block(ground: GroundCover, lots: Cells, edge: Floats, allowed: Mask) -> None:
    """Paint a ring of adjacent houses in each cell, each house with its own roof, with some gaps."""
    at = np.flatnonzero((edge > 11) & (edge <= lots.draw(4, 31, 37)) & allowed)
    p, q, rim = lots.p.take(at), lots.q.take(at), edge.take(at)
    left_or_right = lots.size[0] / 2 - np.abs(p) < lots.size[1] / 2 - np.abs(q)
    side = np.where(left_or_right, 2 + (p > 0), q > 0)
    number = np.floor((np.where(left_or_right, q, p) + 64 + 5 * side) / 27)
    house = (number + 8 * side + 32 * lots.index.take(at)).astype(np.int64)
    draw, kind, tint = (uniform(lots.seed, 30 + k, house) for k in range(3))
    high = 15 + 8 * draw + np.float32(0.5) * (12 - np.abs(rim - 22.5))
    for material, low, top in zip(_ROOFS, (0.06, 0.5, 0.68), (0.5, 0.68, 1), strict=True):
        chosen = (kind >= low) & (kind < top)
        ground.paint(at[chosen], material, tint[chosen], (15 + 8 * draw if material == _ROOFS[2] else high)[chosen])


def _town_streets(d: District, ground: GroundCover, lots: Cells) -> None:
    """Paint streets on all borders between cells."""
    for offset, side, middle, extent, way in (
        (lots.p, lots.size[0] / 2, d.a, d.width, d.b),
        (lots.q, lots.size[1] / 2, d.b, d.length, d.a),
    ):
        across = np.where(offset > 0, offset - np.float32(side), offset + np.float32(side))
        within = (middle > side) & (middle < extent - side)
        road(ground, np.where(within, across, np.float32(1000)), way, STREET, d.seed + int(extent))


def forest(d: District, ground: GroundCover) -> None:
    """Closed canopy with clearings, and a forest track."""
    clearing = d.nature.patch > 1.25
    ground.cover(Material.UNDERGROWTH, 0.5)
    ground.paint(clearing, Material.MEADOW, 0.5, 0.3)
    trees(ground, d.nature, ~clearing, 0.96, 22)
    trees(ground, d.nature, clearing, 0.08, 16)
    middle = d.width * (0.3 + 0.4 * d.chance(1))
    ground.paint(np.abs(d.a - middle + d.nature.patch * 14) < 3.2, Material.GRAVEL, 0.3)


def park(d: District, ground: GroundCover) -> None:
    """Lawns, groups of trees, winding paths, a pond."""
    patch = d.nature.patch
    ground.cover(Material.GRASS, 0.5 + patch * np.float32(0.15))
    trees(ground, d.nature, patch > 0.1, 0.8, 16)
    trees(ground, d.nature, patch <= 0.1, 0.07, 15)
    for middle, way in ((d.width * 0.5, d.a), (d.length * 0.5, d.b)):
        ground.paint(np.abs(way - middle + patch * 16) < 3.5, Material.PAVING, 0.6)
    reach = 45 + 35 * d.chance(1)
    pond = (
        _oval(d.a - np.float32(d.width * 0.28), d.b - np.float32(d.length * 0.3), reach, reach * 0.7)
        + patch * np.float32(0.12)
        < 1
    )
    ground.paint(pond, Material.LAKE, 0.5)


def quarry(d: District, ground: GroundCover) -> None:
    """A pit with benches of sand and gravel, and scrub along its rim."""
    patch, grain = d.nature.patch, d.nature.grain
    rim = np.minimum(np.minimum(d.a, d.width - d.a), np.minimum(d.b, d.length - d.b)) + patch * np.float32(14)
    shade = np.clip(0.5 + 0.2 * patch + 0.05 * grain, 0, 0.999).astype(np.float32)
    ground.cover(Material.MEADOW, shade)
    trees(ground, d.nature, rim < 40, 0.5, 10)
    dug = np.flatnonzero(rim > 34)
    bench = np.floor((rim.take(dug) - 34) / 46)
    ground.paint(dug, Material.GRAVEL, shade.take(dug), -5 * bench)
    sandy = patch.take(dug) + np.float32(0.12) * grain.take(dug) > 0.6
    ground.material[dug[sandy]] = Material.SAND


def _oval(p: Floats, q: Floats, a: float, b: float) -> Floats:
    """(n,) below 1 inside the superellipse |p / a|^2.5 + |q / b|^2.5 = 1."""
    level: Floats = np.abs(p / np.float32(a)) ** 2.5 + np.abs(q / np.float32(b)) ** 2.5
    return level


BUILDERS: dict[str, Callable[[District, GroundCover], None]] = {
    "farm": farm, "homes": homes, "works": works, "centre": centre, "forest": forest, "park": park, "quarry": quarry,
}  # fmt: skip
"""Function that paints a district, by its kind (`look.KINDS`)."""
