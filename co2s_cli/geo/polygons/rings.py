"""Join the halves of arcs into rings, and the rings of a region into a polygon, for many regions at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index, offsets, order, spans


@dataclass(frozen=True, slots=True)
class Halves:
    """Halves of arcs, each with a region on its right."""

    starts: Index
    """First point of the arc, as a position in an array of points."""
    sizes: Index
    """Points, both ends counted."""
    backward: NDArray[np.bool_]
    """True where the points are to be read from the last to the first."""
    keys: Index
    following: Index
    joint: NDArray[np.bool_]
    """True where the half starts at a corner that may lie on a straight line."""
    region: Index

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def take(self, which: Index | NDArray[np.bool_]) -> Halves:
        """Some of them."""
        return Halves(*(getattr(self, field.name)[which] for field in fields(self)))

    def plus(self, other: Halves) -> Halves:
        """Together with some more."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Halves(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings of polygons, those of one polygon together, its shell first; the last point is the first again."""

    points: NDArray[np.int32]
    """(points, 2) corners."""
    starts: Index
    """(rings + 1) where the points of each ring start."""
    area: Index
    """(rings) twice the area in pixels; below zero for holes."""
    region: Index
    """(rings) region each belongs to, ascending."""


def join(halves: Halves, points: NDArray[np.int32]) -> Rings:
    """The rings of regions all of whose halves are in `halves`."""
    if not len(halves.keys):
        none = np.zeros(0, np.int64)
        return Rings(np.zeros((0, 2), np.int32), np.zeros(1, np.int64), none, none)
    sequence, ring = _in_order(halves)
    region = halves.region[sequence[_first_of_each(ring)]]
    corners, ring = _corners(halves, points, sequence, ring)
    closed, starts, smallest = _closed_at_smallest(corners, ring)
    area = _doubled_areas(closed, starts)
    by_polygon = np.lexsort((smallest, area < 0, region))
    sizes = np.diff(starts)[by_polygon]
    return Rings(closed[spans(starts[by_polygon], sizes)], offsets(sizes), area[by_polygon], region[by_polygon])


def _in_order(halves: Halves) -> tuple[Index, Index]:
    """The halves ring after ring, and the number of the ring of each."""
    base = (halves.region - halves.region.min()) * (halves.keys.max() + 1)
    leaving, arriving = np.argsort(base + halves.keys), np.argsort(base + halves.following)
    # where a region meets itself at a corner, it leaves that corner twice; going on along the other piece of itself
    # makes two rings that touch there, as polygons want it, and not one that touches itself
    corner, region = halves.keys[leaving] // 4, halves.region[leaving]
    twice = np.flatnonzero((corner[1:] == corner[:-1]) & (region[1:] == region[:-1]))
    arriving[np.concatenate([twice, twice + 1])] = arriving[np.concatenate([twice + 1, twice])]
    before = np.empty(len(leaving), np.int64)
    before[leaving] = arriving  # of each region, both hold the same keys, each once
    first, steps = order(before, halves.keys)
    sequence = np.lexsort((steps, first))
    return sequence, _numbered(first[sequence])


def _numbered(names: Index) -> Index:
    """0, 1, 2, … for each stretch of equal names."""
    return np.cumsum(np.diff(names, prepend=names[:1]) != 0)


def _first_of_each(ring: Index) -> Index:
    """Positions of the first entry of each ring."""
    return np.flatnonzero(np.diff(ring, prepend=-1))


def _corners(
    halves: Halves, points: NDArray[np.int32], sequence: Index, ring: Index
) -> tuple[NDArray[np.int32], Index]:
    """Corners of all rings, each once, and their rings; joints on straight lines are left out."""
    sizes = halves.sizes[sequence] - 1  # the last point is the first of the half that follows
    starts = offsets(sizes)
    steps = spans(np.zeros_like(sizes), sizes)
    backward = halves.backward[sequence]
    begin = halves.starts[sequence] + np.where(backward, sizes, 0)
    flat = points[np.repeat(begin, sizes) + steps * np.repeat(np.where(backward, -1, 1), sizes)]
    owner = np.repeat(ring, sizes)
    keep = np.ones(len(flat), bool)
    joints = starts[:-1][halves.joint[sequence]]
    keep[joints[_is_straight(flat, owner, joints)]] = False
    return flat[keep], owner[keep]


def _is_straight(flat: NDArray[np.int32], owner: Index, at: Index) -> NDArray[np.bool_]:
    """True where the ring goes straight on at corner `at`."""
    heads = _first_of_each(owner)
    head = heads[owner[at]]
    tail = np.append(heads[1:], len(flat))[owner[at]] - 1
    here = flat[at].astype(np.int64)
    before = here - flat[np.where(at == head, tail, at - 1)]
    after = flat[np.where(at == tail, head, at + 1)] - here
    return np.asarray(before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0])


def _closed_at_smallest(corners: NDArray[np.int32], ring: Index) -> tuple[NDArray[np.int32], Index, Index]:
    """The rings turned to start and end at their smallest corner; their starts (rings + 1); keys of that corner."""
    heads = _first_of_each(ring)
    sizes = np.diff(heads, append=len(ring))
    keys = (corners[:, 1].astype(np.int64) << 32) + corners[:, 0]
    smallest = np.minimum.reduceat(keys, heads)
    at = np.flatnonzero(keys == smallest[ring])
    at = at[_first_of_each(ring[at])] - heads
    steps = spans(at, sizes + 1)
    return corners[np.repeat(heads, sizes + 1) + steps % np.repeat(sizes, sizes + 1)], offsets(sizes + 1), smallest


def _doubled_areas(closed: NDArray[np.int32], starts: Index) -> Index:
    """Twice the signed areas of closed rings: above zero where the region lies inside."""
    x, y = closed[:, 0].astype(np.int64), closed[:, 1].astype(np.int64)
    cross = np.zeros(len(closed), np.int64)
    cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    cross[starts[1:] - 1] = 0  # from one ring to the next there is no edge
    return np.add.reduceat(cross, starts[:-1])
