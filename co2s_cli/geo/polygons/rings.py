"""Join the halves of arcs into rings, and the rings of a region into a polygon, for many regions at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index, offsets, order, spans


@dataclass(frozen=True, slots=True)
class Halves:
    """Halves of arcs, each with a region on its right; every array has one entry a half."""

    starts: Index
    """Index of the arc's first point in an array of points."""
    sizes: Index
    """Number of points of the arc, both ends counted."""
    backward: NDArray[np.bool_]
    """True where the half runs through the arc's points from the last to the first."""
    keys: Index
    """Key of the half: 4 · (corner where it starts) + direction, as in `trace`."""
    following: Index
    """Key of the half that follows this one around the region."""
    joint: NDArray[np.bool_]
    """True where the half starts at a joint, which may lie on a straight line."""
    region: Index
    """Region on the right of the half."""

    @classmethod
    def none(cls) -> Halves:
        """No halves."""
        numbers, flags = np.zeros(0, np.int64), np.zeros(0, bool)
        return cls(numbers, numbers, flags, numbers, numbers, flags, numbers)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def take(self, which: Index | NDArray[np.bool_]) -> Halves:
        """The halves that an index or a mask (halves,) picks."""
        return Halves(*(getattr(self, field.name)[which] for field in fields(self)))

    def plus(self, other: Halves) -> Halves:
        """These halves, then those of `other`."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Halves(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Rings:
    """Closed rings, polygon after polygon, shell before holes; the last point of a ring repeats its first."""

    points: NDArray[np.int32]
    """(points, 2) corners x, y."""
    starts: Index
    """(rings + 1) index of the first point of each ring; the last entry is the number of points."""
    area: Index
    """(rings) twice the area of the ring in pixels, negative for holes."""
    region: Index
    """(rings) region of each ring, ascending."""


def join(halves: Halves, points: NDArray[np.int32]) -> Rings:
    """The rings of some regions; `halves` must hold all halves of each of these regions."""
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
    """Indices of the halves in the order of their rings, and the number of the ring of each."""
    base = (halves.region - halves.region.min()) * (halves.keys.max() + 1)
    leaving, arriving = np.argsort(base + halves.keys), np.argsort(base + halves.following)
    # where a region touches itself at a corner, two of its halves start there. Swapping their successors splits one
    # ring that would touch itself, which is invalid, into two rings that touch in a point, which is valid
    corner, region = halves.keys[leaving] // 4, halves.region[leaving]
    twice = np.flatnonzero((corner[1:] == corner[:-1]) & (region[1:] == region[:-1]))
    arriving[np.concatenate([twice, twice + 1])] = arriving[np.concatenate([twice + 1, twice])]
    before = np.empty(len(leaving), np.int64)
    before[leaving] = arriving  # within a region, keys and following are the same set of numbers
    first, steps = order(before, halves.keys)
    sequence = np.lexsort((steps, first))
    return sequence, _numbered(first[sequence])


def _numbered(values: Index) -> Index:
    """(values) number of the run of equal values in which each value lies, from 0."""
    return np.cumsum(np.diff(values, prepend=values[:1]) != 0)


def _first_of_each(ring: Index) -> Index:
    """Index of the first entry of each ring."""
    return np.flatnonzero(np.diff(ring, prepend=-1))


def _corners(
    halves: Halves, points: NDArray[np.int32], sequence: Index, ring: Index
) -> tuple[NDArray[np.int32], Index]:
    """Corners (corners, 2) of all rings, not yet closed, and the ring of each; joints on straight lines are dropped."""
    sizes = halves.sizes[sequence] - 1  # the last point is the first of the next half
    starts = offsets(sizes)
    steps = spans(np.zeros_like(sizes), sizes)
    backward = halves.backward[sequence]
    begin = halves.starts[sequence] + np.where(backward, sizes, 0)
    corners = points[np.repeat(begin, sizes) + steps * np.repeat(np.where(backward, -1, 1), sizes)]
    corner_ring = np.repeat(ring, sizes)
    keep = np.ones(len(corners), bool)
    joints = starts[:-1][halves.joint[sequence]]
    keep[joints[_is_straight(corners, corner_ring, joints)]] = False
    return corners[keep], corner_ring[keep]


def _is_straight(corners: NDArray[np.int32], ring: Index, index: Index) -> NDArray[np.bool_]:
    """(index) True where corner `index[i]` lies on the line between the corners before and after it in its ring."""
    heads = _first_of_each(ring)
    head = heads[ring[index]]
    tail = np.append(heads[1:], len(corners))[ring[index]] - 1
    corner = corners[index].astype(np.int64)
    before = corner - corners[np.where(index == head, tail, index - 1)]
    after = corners[np.where(index == tail, head, index + 1)] - corner
    return np.asarray(before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0])


def _closed_at_smallest(corners: NDArray[np.int32], ring: Index) -> tuple[NDArray[np.int32], Index, Index]:
    """Closed rings that start and end at their smallest corner in raster order.

    Returns:
        Points (points, 2); index (rings + 1) of the first point of each ring; key (rings) y · 2³² + x of the corner.
    """
    heads = _first_of_each(ring)
    sizes = np.diff(heads, append=len(ring))
    keys = (corners[:, 1].astype(np.int64) << 32) + corners[:, 0]
    smallest = np.minimum.reduceat(keys, heads)
    is_smallest = np.flatnonzero(keys == smallest[ring])
    shift = is_smallest[_first_of_each(ring[is_smallest])] - heads
    steps = spans(shift, sizes + 1)
    return corners[np.repeat(heads, sizes + 1) + steps % np.repeat(sizes, sizes + 1)], offsets(sizes + 1), smallest


def _doubled_areas(closed: NDArray[np.int32], starts: Index) -> Index:
    """(rings) twice the signed area of each closed ring: positive for shells, negative for holes."""
    x, y = closed[:, 0].astype(np.int64), closed[:, 1].astype(np.int64)
    cross = np.zeros(len(closed), np.int64)
    cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    cross[starts[1:] - 1] = 0  # there is no edge from the last point of a ring to the first of the next one
    return np.add.reduceat(cross, starts[:-1])
