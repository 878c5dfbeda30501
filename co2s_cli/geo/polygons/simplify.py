"""Simplify the arcs of a block after Visvalingam and Whyatt, all arcs at once, keeping the coverage valid.

The triangle of a point is spanned by the point and its two neighbours in the arc. In each round a point is removed if
1. the area of its triangle is at most tolerance²,
2. this area is smaller than those of both neighbours (ties are broken by a hash of the coordinates), and
3. its triangle holds no corner of the unsimplified map, other than points of the same arc between the two neighbours.

By rule 3 no border sweeps over a corner of the map, so that simplified borders neither cross nor touch, no island
changes sides, and no removal has to be undone. The result of an arc depends on that arc and on the unsimplified map
alone, not on the results of other arcs.

Arcs between the same two nodes would all become the same straight line, so that all but one of them keep a point
between their ends. An arc that starts and ends on the same line of joints keeps one too, because an arc of the next
block may have the same ends. A closed arc keeps three corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index, offsets, spans
from co2s_cli.geo.polygons.trace import Arcs

JOINTS_EVERY = 256
"""Rows between the lines of joints, on which arcs are cut so that a block can be simplified by itself."""

JOINT_COLUMNS = 32_768
"""Columns between the lines of joints: few maps are that wide, and a block takes 1 GB at any width of the map."""

_NEVER = np.iinfo(np.int64).max
"""Weight of points that cannot be removed."""


def simplified(arcs: Arcs, tolerance: float, sides: Sequence[int] = ()) -> Arcs:
    """The arcs with fewer points.

    Args:
        arcs: Arcs of one block.
        tolerance: In pixels; a point goes if the area of its triangle is at most tolerance² square pixels.
        sides: Columns of corners that the block shares with blocks on its left and right.
    """
    points = arcs.points.astype(np.int64)
    sizes = np.diff(arcs.starts)
    is_end = np.zeros(len(points), bool)
    is_end[arcs.starts[:-1]] = is_end[arcs.starts[1:] - 1] = True
    owner = np.repeat(np.arange(len(sizes)), sizes)
    state = _ArcPoints(points, owner, is_end, _hashes(points), _least(arcs, sides), int(2 * tolerance * tolerance))
    kept = _reduce(state, _CornerMap.of(state))
    return replace(arcs, points=arcs.points[kept], starts=offsets(np.bincount(state.arc[kept], minlength=len(sizes))))


@dataclass(frozen=True, slots=True)
class _ArcPoints:
    """The points of the unsimplified arcs, and which of them may be removed."""

    points: Index
    """(points, 2) corners x, y."""
    arc: Index
    """(points) index of each point's arc."""
    is_end: NDArray[np.bool_]
    """(points) True for the first and the last point of each arc."""
    tie: Index
    """(points) hash below 2³² that orders points whose triangles have equal areas."""
    least: Index
    """(arcs) number of points that each arc must keep."""
    limit: int
    """Largest doubled triangle area of a point that may be removed."""


@dataclass(frozen=True, slots=True)
class _CornerMap:
    """All corners of the unsimplified arcs, in raster order."""

    keys: Index
    """(corners) y · 2³² + x of each corner, ascending."""
    point: Index
    """(corners) index of the arc point at each corner; -1 where arcs end there."""

    @classmethod
    def of(cls, arcs: _ArcPoints) -> _CornerMap:
        keys = _key(arcs.points[:, 0], arcs.points[:, 1])
        inner = np.flatnonzero(~arcs.is_end)
        ends = np.unique(keys[arcs.is_end])
        keys = np.concatenate([keys[inner], ends])
        order = np.argsort(keys)
        return cls(keys[order], np.concatenate([inner, np.full(len(ends), -1)])[order])

    def blocks(self, arcs: _ArcPoints, before: Index, point: Index, after: Index) -> NDArray[np.bool_]:
        """(triangles) True where a triangle holds a corner other than points of its arc from `before` to `after`.

        `before`, `point` and `after` (triangles) are the vertices of the triangles: indices of points of one arc each.
        """
        triangle, row, first, last = lattice_rows(arcs.points[np.stack([before, point, after], axis=1)])
        begin = np.searchsorted(self.keys, _key(first, row))
        count = np.searchsorted(self.keys, _key(last, row), "right") - begin
        triangle, corner = np.repeat(triangle, count), spans(begin, count)
        same_arc = (self.point[corner] >= before[triangle]) & (self.point[corner] <= after[triangle])
        for neighbour in (before, after):  # may be an end of the arc, for which `self.point` holds -1
            same_arc |= self.keys[corner] == _key(*arcs.points[neighbour[triangle]].T)
        blocked = np.zeros(len(point), bool)
        blocked[triangle[~same_arc]] = True
        return blocked


def _key(x: Index, y: Index) -> Index:
    return (y << 32) + x


def _least(arcs: Arcs, sides: Sequence[int]) -> Index:
    """(arcs) number of points that each arc must keep."""
    first, last = arcs.points[arcs.starts[:-1]].astype(np.int64), arcs.points[arcs.starts[1:] - 1].astype(np.int64)
    ends = np.sort(np.stack([_key(*first.T), _key(*last.T)], axis=1), axis=1)
    least = np.full(len(ends), 2)
    least[(first[:, 1] == last[:, 1]) & (first[:, 1] % JOINTS_EVERY == 0)] = 3
    least[(first[:, 0] == last[:, 0]) & np.isin(first[:, 0], sides)] = 3
    sizes = np.diff(arcs.starts)
    # of the arcs between the same ends, the first in this order may become straight
    order = np.lexsort((arcs.keys[:, 0], sizes > 2, ends[:, 1], ends[:, 0]))
    same_ends = np.all(ends[order[1:]] == ends[order[:-1]], axis=1)
    least[order[1:][same_ends]] = 3
    least[ends[:, 0] == ends[:, 1]] = 4
    return least


def _reduce(arcs: _ArcPoints, corners: _CornerMap) -> Index:
    """Indices of the points that are kept.

    `active` holds the remaining points of arcs from which points may still be removed; `blocked` and `weight` have one
    entry for each of them, and `removed` are positions in it. A blocked point is tried again once one of its neighbours
    is removed.
    """
    kept = np.ones(len(arcs.points), bool)
    active = np.arange(len(arcs.points))
    blocked = np.zeros(len(active), bool)
    while len(active):
        weight = _weights(arcs, active, blocked)
        active, weight, blocked = _of_active_arcs(arcs, active, weight, blocked)
        chosen = np.flatnonzero(_smallest(weight))
        if not len(chosen):
            break
        large = chosen[weight[chosen] >> 32 > 1]  # a triangle of half a pixel holds no corners but its three vertices
        newly_blocked = large[corners.blocks(arcs, active[large - 1], active[large], active[large + 1])]
        blocked[newly_blocked] = True
        free = np.setdiff1d(chosen, newly_blocked, assume_unique=True)
        removed = _within_quota(arcs, active, weight, free)
        blocked[removed - 1] = blocked[removed + 1] = False
        kept[active[removed]] = False
        remains = np.ones(len(active), bool)
        remains[removed] = False
        active, blocked = active[remains], blocked[remains]
    return np.flatnonzero(kept)


def _weights(arcs: _ArcPoints, active: Index, blocked: NDArray[np.bool_]) -> Index:
    """(active) doubled triangle area · 2³² + tie; `_NEVER` for points that cannot be removed now."""
    x, y = arcs.points[active].T
    weight = np.full(len(active), _NEVER)
    if len(active) > 2:
        ax, ay = x[1:-1] - x[:-2], y[1:-1] - y[:-2]
        bx, by = x[2:] - x[1:-1], y[2:] - y[1:-1]
        area = np.abs(ax * by - ay * bx)
        weight[1:-1] = np.where(area <= arcs.limit, (area << 32) + arcs.tie[active[1:-1]], _NEVER)
    counts = np.bincount(arcs.arc[active], minlength=len(arcs.least))
    at_least = (counts <= arcs.least)[arcs.arc[active]]
    weight[arcs.is_end[active] | blocked | at_least] = _NEVER
    return weight


def _of_active_arcs(
    arcs: _ArcPoints, active: Index, weight: Index, blocked: NDArray[np.bool_]
) -> tuple[Index, Index, NDArray[np.bool_]]:
    """The entries of `active`, `weight` and `blocked` that belong to arcs from which a point can be removed now."""
    arc_is_active = np.zeros(len(arcs.least), bool)
    arc_is_active[arcs.arc[active[weight < _NEVER]]] = True
    still_active = arc_is_active[arcs.arc[active]]
    return active[still_active], weight[still_active], blocked[still_active]


def _smallest(weight: Index) -> NDArray[np.bool_]:
    """(active) True for removable points whose weight is smaller than those of both neighbours."""
    smallest = weight < _NEVER
    smallest[1:] &= weight[1:] < weight[:-1]
    smallest[:-1] &= weight[:-1] < weight[1:]
    return smallest


def _within_quota(arcs: _ArcPoints, active: Index, weight: Index, removed: Index) -> Index:
    """The positions `removed`; of an arc that would keep too few points only the position of smallest weight."""
    arc = arcs.arc[active]
    count, count_removed = (np.bincount(each, minlength=len(arcs.least)) for each in (arc, arc[removed]))
    too_many = (count - count_removed < arcs.least)[arc[removed]]
    by_weight = removed[too_many]
    by_weight = by_weight[np.lexsort((weight[by_weight], arc[by_weight]))]
    smallest = by_weight[np.flatnonzero(np.diff(arc[by_weight], prepend=-1))]
    return np.sort(np.concatenate([removed[~too_many], smallest]))


def _hashes(points: Index) -> Index:
    """(points) a hash below 2³² of the coordinates of each point."""
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
        Four arrays with an entry for each row of each triangle: index of the triangle, y of the row, first and last x
        of the lattice points in it; first > last where the row holds none.
    """
    low, high = triangles[:, :, 1].min(axis=1), triangles[:, :, 1].max(axis=1)
    sizes = high - low + 1
    triangle = np.repeat(np.arange(len(triangles)), sizes)
    row = spans(low, sizes)
    first = np.full(len(triangle), np.iinfo(np.int64).max)
    last = np.full(len(triangle), np.iinfo(np.int64).min)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        (ax, ay), (bx, by) = triangles[triangle, start].T, triangles[triangle, end].T
        crossed = (np.minimum(ay, by) <= row) & (row <= np.maximum(ay, by))
        dy = np.where(ay == by, 1, by - ay)
        scaled_dx = (bx - ax) * (row - ay)  # the edge meets the row at x = ax + scaled_dx / dy
        left = np.where(ay == by, np.minimum(ax, bx), ax - (-scaled_dx // dy))
        right = np.where(ay == by, np.maximum(ax, bx), ax + scaled_dx // dy)
        first = np.where(crossed, np.minimum(first, left), first)
        last = np.where(crossed, np.maximum(last, right), last)
    return triangle, row, first, last
