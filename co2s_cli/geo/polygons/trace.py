"""Trace the borders between the regions of a class raster, block by block, as arcs from node to node.

A corner is a corner of pixels: corner (x, y) lies left of column x and above row y. A crack is the unit edge between
two neighbouring pixels that differ. A node is a corner with three or four cracks: three regions (or nodata, or the
frame) meet there, or two touch diagonally. A joint is a corner where an arc is cut though it goes on: on the first row
of every block and on fixed rows, so that an arc never leaves its block. An arc without node or joint is closed and
starts at its smallest corner in raster order.

Every arc runs with the smaller value on its right. Its two halves, forward and backward, each have a region on their
right; a half starts with the key 4 · corner + direction, and knows the key of the half that goes on around its region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons import regions
from co2s_cli.geo.polygons.chains import Index, offsets, order
from co2s_cli.geo.polygons.regions import Pixels, Regions

RIGHT, DOWN, LEFT, UP = range(4)


@dataclass(frozen=True, slots=True)
class Arcs:
    """Arcs of a block; in arrays of two columns the first is the forward half, the second the backward half."""

    points: NDArray[np.int32]
    """(points, 2) corners x, y, arc after arc, without those on straight lines."""
    starts: Index
    """(arcs + 1) where the points of each arc start."""
    keys: Index
    """(arcs, 2) key of each half."""
    following: Index
    """(arcs, 2) key of the half that goes on."""
    joint: NDArray[np.bool_]
    """(arcs, 2) True where the half starts at a joint."""
    region: Index
    """(arcs, 2) region on the right of each half, nodata and the outside included."""


@dataclass(frozen=True, slots=True)
class TracedRows:
    """What tracing makes of some rows of pixels."""

    arcs: Arcs
    regions: Regions
    """Of the row above the block and the block's rows; the first row's runs are also the last of the block above."""


@dataclass(frozen=True, slots=True)
class _Corners:
    """The corners where something happens, in raster order; arrays of one entry a corner."""

    x: Index
    y: Index
    """Rows of corners within the block."""
    cracks: NDArray[np.bool_]
    """(4, corners) by direction: True where a crack leaves the corner."""
    stop: NDArray[np.bool_]
    """True at nodes and joints."""

    @property
    def joint(self) -> NDArray[np.bool_]:
        """True where an arc stops but goes on."""
        return np.asarray(self.stop & (self.cracks.sum(axis=0) == 2))


@dataclass(frozen=True, slots=True)
class _Segments:
    """Straight lines between corners, the smaller value on the right."""

    tail: Index
    head: Index
    direction: NDArray[np.int8]
    right: Index
    """A pixel on the right of the tail, as a position in the raveled rows of the frame."""
    left: Index


def trace(rows: Pixels, top: int, *, joints_every: int = 0) -> TracedRows:
    """The arcs of a block of rows.

    Args:
        rows: (rows + 2, columns + 2) the block's pixels with one pixel more on each side, `OUTSIDE` outside the raster.
        top: Row of the raster in which the block starts.
        joints_every: Arcs are cut on rows of corners that are multiples of it; 0 cuts at block borders only.
    """
    corners = _corners(rows, top, joints_every)
    segments = _segments(rows, corners)
    labelled = regions.find(rows[:-1])
    return TracedRows(_chain(segments, corners, labelled, top, rows.shape[1] - 1), labelled)


def _corners(rows: Pixels, top: int, joints_every: int) -> _Corners:
    """Corners that are no plain point of a straight line, and all that are joints."""
    upright = rows[:, 1:] != rows[:, :-1]
    level = np.zeros((rows.shape[0] - 1, rows.shape[1]), bool)
    np.not_equal(rows[1:, 1:-1], rows[:-1, 1:-1], out=level[:, 1:-1])
    above, below = upright[:-1], upright[1:]
    special = (above | below) & (level[:, :-1] | level[:, 1:])
    cut = np.zeros(len(special), bool)
    cut[0] = cut[-1] = True
    if joints_every:
        cut[-top % joints_every :: joints_every] = True
    special[cut] |= above[cut]
    special[-1] = above[-1]
    y, x = np.nonzero(special)
    cracks = np.stack([level[y, x + 1], below[y, x], level[y, x], above[y, x]])
    return _Corners(x, y, cracks, (cracks.sum(axis=0) > 2) | (cut[y] & cracks[UP]))


def _segments(rows: Pixels, corners: _Corners) -> _Segments:
    """All straight lines of the block: those rightwards first, then those downwards."""
    width = rows.shape[1]
    inner = corners.y < rows.shape[0] - 2  # cracks right of and below the last row of corners are the next block's
    across = np.flatnonzero(corners.cracks[RIGHT] & inner)
    by_column = np.argsort(corners.x.astype(np.uint16) if width < 2**16 else corners.x, kind="stable")
    leaves = np.flatnonzero((corners.cracks[DOWN] & inner)[by_column])
    down, bottom = by_column[leaves], by_column[leaves + 1]
    start = np.concatenate([across, down])
    end = np.concatenate([across + 1, bottom])
    level = np.arange(len(start)) < len(across)
    south_east = (corners.y[start] + 1) * width + corners.x[start] + 1
    right = np.where(level, south_east, south_east - 1)
    left = np.where(level, south_east - width, south_east)
    values = rows.ravel()
    ahead = values[right] < values[left]
    direction = np.where(level, np.where(ahead, RIGHT, LEFT), np.where(ahead, DOWN, UP)).astype(np.int8)
    return _Segments(
        np.where(ahead, start, end),
        np.where(ahead, end, start),
        direction,
        np.where(ahead, right, left),
        np.where(ahead, left, right),
    )


def _chain(segments: _Segments, corners: _Corners, labelled: Regions, top: int, columns: int) -> Arcs:
    """Join the segments into arcs; `columns` of corners."""
    arriving = np.full(len(corners.x), -1, np.int64)
    arriving[segments.head] = np.arange(len(segments.head))
    opens = corners.stop[segments.tail]
    first, steps = order(np.where(opens, np.arange(len(opens)), arriving[segments.tail]), segments.tail)
    heads = np.flatnonzero(first == np.arange(len(first)))
    number = np.empty(len(first), np.int64)
    number[heads] = np.arange(len(heads))
    sizes = np.bincount(number[first], minlength=len(heads)) + 1
    starts = offsets(sizes)
    sequence = np.empty(starts[-1], np.int64)
    sequence[starts[:-1]] = segments.tail[heads]
    sequence[starts[number[first]] + steps + 1] = segments.head
    last = np.empty(len(heads), np.int64)
    last_step = steps == sizes[number[first]] - 2
    last[number[first[last_step]]] = np.flatnonzero(last_step)
    keys, following = _keys(segments, corners, np.stack([heads, last], axis=1), top, columns)
    ends = np.stack([segments.tail[heads], segments.head[last]], axis=1)
    sides = np.stack([segments.right[heads], segments.left[heads]], axis=1)
    points = np.stack([corners.x[sequence], corners.y[sequence] + top], axis=1).astype(np.int32)
    return Arcs(points, starts, keys, following, corners.joint[ends], labelled.at(sides))


def _keys(segments: _Segments, corners: _Corners, ends: Index, top: int, columns: int) -> tuple[Index, Index]:
    """Keys of both halves of each arc, and of the halves that follow; `ends` (arcs, 2) are its end segments."""
    leaving = segments.direction[ends].astype(np.int64)
    leaving[:, 1] ^= 2  # the backward half leaves the last segment's head in the opposite direction
    at = np.stack([segments.tail[ends[:, 0]], segments.head[ends[:, 1]]], axis=1)
    place = 4 * ((corners.y[at] + top) * columns + corners.x[at])
    arrival = leaving[:, ::-1] ^ 2
    there = at[:, ::-1]
    turned = (arrival + 1) % 4  # keep to the right: regions that touch at a corner only stay apart
    onward = np.where(
        corners.cracks[turned, there],
        turned,
        np.where(corners.cracks[arrival, there], arrival, (arrival + 3) % 4),
    )
    return place + leaving, place[:, ::-1] + onward
