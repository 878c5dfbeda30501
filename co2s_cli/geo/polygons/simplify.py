"""Simplify the arcs of a block after Visvalingam and Whyatt, all at once and without ever breaking the coverage.

A corner whose triangle with its neighbours is at most tolerance² in area leaves, if it is smaller than both of them
(equal areas are told apart by a number made from the corner's place), and if no corner of the unsimplified map lies in
that triangle but those that it, in its own arc, has outlived. So borders never sweep over a corner; by that alone no
two results can cross or touch, and no island changes sides: nothing has to be taken back afterwards. What an arc
becomes depends on itself and on the unsimplified corners between its own, never on what others become.

Two borders between the same two nodes would fall on each other as straight lines, so that all but one of them keep a
corner; so does a border that leaves a line of joints and comes back to it, for there may be another on the other side.
A closed border keeps three corners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index, offsets, spans
from co2s_cli.geo.polygons.trace import Arcs

JOINTS_EVERY = 256
"""Rows between the lines on which arcs are cut, so that a block can be simplified on its own."""

_NEVER = np.iinfo(np.int64).max


def simplified(arcs: Arcs, tolerance: float) -> Arcs:
    """The arcs with fewer points; `tolerance` in pixels."""
    points = arcs.points.astype(np.int64)
    sizes = np.diff(arcs.starts)
    is_end = np.zeros(len(points), bool)
    is_end[arcs.starts[:-1]] = is_end[arcs.starts[1:] - 1] = True
    owner = np.repeat(np.arange(len(sizes)), sizes)
    state = _Arcs(points, owner, is_end, _scatter(points), _least(arcs), int(2 * tolerance * tolerance))
    kept = _reduce(state, _Map.of(state))
    return replace(arcs, points=arcs.points[kept], starts=offsets(np.bincount(state.arc[kept], minlength=len(sizes))))


@dataclass(frozen=True, slots=True)
class _Arcs:
    """The unsimplified arcs."""

    points: Index
    """(points, 2)"""
    arc: Index
    """Of each point."""
    is_end: NDArray[np.bool_]
    """True for the first and the last point of each arc."""
    tie: Index
    """Of each point, a number that decides between equal areas."""
    least: Index
    """Points that each arc keeps at least."""
    limit: int
    """Doubled area up to which corners may leave."""


@dataclass(frozen=True, slots=True)
class _Map:
    """All corners of the unsimplified arcs, in raster order."""

    keys: Index
    point: Index
    """The point at each corner; -1 where an arc ends there."""

    @classmethod
    def of(cls, arcs: _Arcs) -> _Map:
        keys = _key(arcs.points[:, 0], arcs.points[:, 1])
        inner = np.flatnonzero(~arcs.is_end)
        ends = np.unique(keys[arcs.is_end])
        keys = np.concatenate([keys[inner], ends])
        order = np.argsort(keys)
        return cls(keys[order], np.concatenate([inner, np.full(len(ends), -1)])[order])

    def blocks(self, arcs: _Arcs, before: Index, corner: Index, after: Index) -> NDArray[np.bool_]:
        """True where the triangle of three points of an arc holds a corner that must stay where it is."""
        triangle, row, first, last = lattice_rows(arcs.points[np.stack([before, corner, after], axis=1)])
        begin = np.searchsorted(self.keys, _key(first, row))
        count = np.searchsorted(self.keys, _key(last, row), "right") - begin
        triangle, found = np.repeat(triangle, count), spans(begin, count)
        own = (self.point[found] >= before[triangle]) & (self.point[found] <= after[triangle])
        for end in (before, after):  # an arc's ends have no point of their own in the map
            own |= self.keys[found] == _key(*arcs.points[end[triangle]].T)
        blocked = np.zeros(len(corner), bool)
        blocked[triangle[~own]] = True
        return blocked


def _key(x: Index, y: Index) -> Index:
    return (y << 32) + x


def _least(arcs: Arcs) -> Index:
    """Points that each arc keeps at least."""
    first, last = arcs.points[arcs.starts[:-1]].astype(np.int64), arcs.points[arcs.starts[1:] - 1].astype(np.int64)
    ends = np.sort(np.stack([_key(*first.T), _key(*last.T)], axis=1), axis=1)
    least = np.full(len(ends), 2)
    least[(first[:, 1] == last[:, 1]) & (first[:, 1] % JOINTS_EVERY == 0)] = 3
    sizes = np.diff(arcs.starts)
    order = np.lexsort(
        (arcs.keys[:, 0], sizes > 2, ends[:, 1], ends[:, 0])
    )  # the first of its kind may become straight
    again = np.all(ends[order[1:]] == ends[order[:-1]], axis=1)
    least[order[1:][again]] = 3
    least[ends[:, 0] == ends[:, 1]] = 4
    return least


def _reduce(arcs: _Arcs, around: _Map) -> Index:
    """Points that stay."""
    stay = np.ones(len(arcs.points), bool)
    alive = np.arange(len(arcs.points))
    refused = np.zeros(len(alive), bool)
    while len(alive):
        weight = _weights(arcs, alive, refused)
        alive, weight, refused = _of_live_arcs(arcs, alive, weight, refused)
        chosen = np.flatnonzero(_smallest(weight))
        if not len(chosen):
            break
        big = chosen[weight[chosen] >> 32 > 1]  # a triangle of half a pixel has no corner but its own
        no = big[around.blocks(arcs, alive[big - 1], alive[big], alive[big + 1])]
        refused[no] = True
        leaving = np.setdiff1d(chosen, no, assume_unique=True)
        leaving = _within_quota(arcs, alive, weight, leaving)
        refused[leaving - 1] = refused[leaving + 1] = False
        gone = np.zeros(len(alive), bool)
        gone[leaving] = True
        stay[alive[gone]] = False
        alive, refused = alive[~gone], refused[~gone]
    return np.flatnonzero(stay)


def _weights(arcs: _Arcs, alive: Index, refused: NDArray[np.bool_]) -> Index:
    """Doubled area above, tie below; `_NEVER` for corners that stay for now."""
    x, y = arcs.points[alive].T
    weight = np.full(len(alive), _NEVER)
    if len(alive) > 2:
        ax, ay = x[1:-1] - x[:-2], y[1:-1] - y[:-2]
        bx, by = x[2:] - x[1:-1], y[2:] - y[1:-1]
        area = np.abs(ax * by - ay * bx)
        weight[1:-1] = np.where(area <= arcs.limit, (area << 32) + arcs.tie[alive[1:-1]], _NEVER)
    counts = np.bincount(arcs.arc[alive], minlength=len(arcs.least))
    full = (counts <= arcs.least)[arcs.arc[alive]]
    weight[arcs.is_end[alive] | refused | full] = _NEVER
    return weight


def _of_live_arcs(
    arcs: _Arcs, alive: Index, weight: Index, refused: NDArray[np.bool_]
) -> tuple[Index, Index, NDArray[np.bool_]]:
    """Only what belongs to arcs in which a corner may leave."""
    live = np.zeros(len(arcs.least), bool)
    live[arcs.arc[alive[weight < _NEVER]]] = True
    kept = live[arcs.arc[alive]]
    return alive[kept], weight[kept], refused[kept]


def _smallest(weight: Index) -> NDArray[np.bool_]:
    """True for corners that may leave and are smaller than both neighbours."""
    smallest = weight < _NEVER
    smallest[1:] &= weight[1:] < weight[:-1]
    smallest[:-1] &= weight[:-1] < weight[1:]
    return smallest


def _within_quota(arcs: _Arcs, alive: Index, weight: Index, leaving: Index) -> Index:
    """Only the smallest corner of arcs in which too few would stay if all left."""
    owner = arcs.arc[alive]
    count, out = (np.bincount(some, minlength=len(arcs.least)) for some in (owner, owner[leaving]))
    scarce = (count - out < arcs.least)[owner[leaving]]
    some = leaving[scarce]
    some = some[np.lexsort((weight[some], owner[some]))]
    firsts = some[np.flatnonzero(np.diff(owner[some], prepend=-1))]
    return np.sort(np.concatenate([leaving[~scarce], firsts]))


def _scatter(points: Index) -> Index:
    """A number below 2³² for each place that looks like chance."""
    mixed = points[:, 0].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= points[:, 1].astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(32)).astype(np.int64)


def lattice_rows(triangles: Index) -> tuple[Index, Index, Index, Index]:
    """The lattice points in triangles, edges and corners included, row by row.

    Args:
        triangles: (triangles, 3, 2) corners x, y.

    Returns:
        For each row of each triangle: triangle, y, first x and last x; first > last where there is no point.
    """
    low, high = triangles[:, :, 1].min(axis=1), triangles[:, :, 1].max(axis=1)
    sizes = high - low + 1
    which = np.repeat(np.arange(len(triangles)), sizes)
    row = spans(low, sizes)
    first = np.full(len(which), np.iinfo(np.int64).max)
    last = np.full(len(which), np.iinfo(np.int64).min)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        (ax, ay), (bx, by) = triangles[which, start].T, triangles[which, end].T
        met = (np.minimum(ay, by) <= row) & (row <= np.maximum(ay, by))
        rise = np.where(ay == by, 1, by - ay)
        way = (bx - ax) * (row - ay)
        left = np.where(ay == by, np.minimum(ax, bx), ax - (-way // rise))
        right = np.where(ay == by, np.maximum(ax, bx), ax + way // rise)
        first = np.where(met, np.minimum(first, left), first)
        last = np.where(met, np.maximum(last, right), last)
    return which, row, first, last
