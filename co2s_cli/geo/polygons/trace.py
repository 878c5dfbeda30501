"""Trace the borders between the regions of a class raster, block by block, as arcs from node to node.

A corner is a corner of pixels: corner (x, y) lies left of column x and above row y. A crack is the unit edge between
two neighbouring pixels that differ. A node is a corner with three or four cracks: three regions (or nodata, or the
frame) meet there, or two touch diagonally. A joint is a corner at which a border that goes on is cut into two arcs: on
the first and last row and column of corners of every block and on fixed rows, so that every arc lies within one block.
The cracks on its first row and column are the block's, those on its last ones belong to the next blocks. An arc without
node or joint is closed and starts at its smallest corner in raster order.

Every arc runs with the smaller value on its right. It is stored as two halves, forward and backward, each with the
region on its right. A half is known by its key, 4 · (index of the corner that it leaves) + direction, and holds the key
of the half that follows it around its region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons import regions
from co2s_cli.geo.polygons.chains import Index, offsets, order
from co2s_cli.geo.polygons.regions import Pixels, Regions
from co2s_cli.tiling import Window

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
    """(arcs, 2) key of the half that follows each half around its region."""
    joint: NDArray[np.bool_]
    """(arcs, 2) True where the half starts at a joint."""
    region: Index
    """(arcs, 2) region on the right of each half, nodata and the outside included."""


@dataclass(frozen=True, slots=True)
class TracedBlock:
    """The arcs and the regions of a block."""

    arcs: Arcs
    regions: Regions
    """Of the block, the row above it and the column left of it, which are also the last ones of other blocks."""


@dataclass(frozen=True, slots=True)
class _Corners:
    """Corners at which a border turns, meets others, or is cut, in raster order; arrays have one entry a corner."""

    x: Index
    y: Index
    """Row of corners, counted from the top of the block; `x` likewise from its left side."""
    cracks: NDArray[np.bool_]
    """(4, corners) by direction: True where a crack leaves the corner."""
    stop: NDArray[np.bool_]
    """True at nodes and joints."""

    @property
    def joint(self) -> NDArray[np.bool_]:
        """True at joints: arcs end, but the border goes on."""
        return np.asarray(self.stop & (self.cracks.sum(axis=0) == 2))


@dataclass(frozen=True, slots=True)
class _Segments:
    """Straight lines between two of these corners, directed so that the smaller value is on the right."""

    tail: Index
    """Corner at which the segment starts."""
    head: Index
    """Corner at which it ends."""
    direction: NDArray[np.int8]
    """`RIGHT`, `DOWN`, `LEFT` or `UP`."""
    right: Index
    """Pixel on the right of its start, as an index into the raveled pixels (rows + 1, columns + 1) of the regions."""
    left: Index
    """Pixel on the left of its start, likewise."""


def trace(pixels: Pixels, block: Window, *, width: int, joints_every: int = 0) -> TracedBlock:
    """The arcs of a block.

    Args:
        pixels: (rows + 2, columns + 2) the block's with one more on each side, `OUTSIDE` outside the raster.
        block: Where it lies; the last ones reach a row, a column beyond the raster, for the cracks on its border.
        width: Columns of the raster.
        joints_every: Arcs are cut on rows of corners that are multiples of it; 0 cuts at block borders only.
    """
    corners = _corners(pixels, block.row, joints_every)
    inside = np.ascontiguousarray(pixels[:-1, :-1])
    segments = _segments(inside, corners)
    labelled = regions.find(inside)
    return TracedBlock(_chain(segments, corners, labelled, block, width + 1), labelled)


def _corners(pixels: Pixels, top: int, joints_every: int) -> _Corners:
    """Corners at which cracks of both directions meet, and all joints."""
    vertical = pixels[:, 1:] != pixels[:, :-1]
    horizontal = pixels[1:] != pixels[:-1]
    above, below = vertical[:-1], vertical[1:]
    listed = (above | below) & (horizontal[:, :-1] | horizontal[:, 1:])
    has_joints = np.zeros(len(listed), bool)  # by row of corners
    has_joints[0] = has_joints[-1] = True
    if joints_every:
        has_joints[-top % joints_every :: joints_every] = True
    listed[has_joints] |= above[has_joints]
    listed[:, 0] |= horizontal[:, 0]
    listed[:, -1] = horizontal[:, -2]
    listed[-1, :-1], listed[-1, -1] = above[-1, :-1], False
    y, x = np.nonzero(listed)
    cracks = np.stack([horizontal[y, x + 1], below[y, x], horizontal[y, x], above[y, x]])
    at_side = (x == 0) | (x == listed.shape[1] - 1)
    return _Corners(x, y, cracks, (cracks.sum(axis=0) > 2) | (has_joints[y] & cracks[UP]) | (at_side & cracks[LEFT]))


def _segments(inside: Pixels, corners: _Corners) -> _Segments:
    """All segments of the block, the horizontal ones first.

    A segment goes from its first corner (`start`, in raster order) to the next listed corner in the same row or column
    (`end`), and is turned round where the smaller value would be on its left.
    """
    height, width = inside.shape
    # cracks right of and below the last row and column of corners are other blocks'
    inner = (corners.y < height - 1) & (corners.x < width - 1)
    horizontal_start = np.flatnonzero(corners.cracks[RIGHT] & inner)
    by_column = np.argsort(corners.x.astype(np.uint16) if width < 2**16 else corners.x, kind="stable")
    leaves = np.flatnonzero((corners.cracks[DOWN] & inner)[by_column])
    start = np.concatenate([horizontal_start, by_column[leaves]])
    end = np.concatenate([horizontal_start + 1, by_column[leaves + 1]])
    horizontal = np.arange(len(start)) < len(horizontal_start)
    south_east = (corners.y[start] + 1) * width + corners.x[start] + 1
    right = np.where(horizontal, south_east, south_east - 1)
    left = np.where(horizontal, south_east - width, south_east)
    values = inside.ravel()
    forward = values[right] < values[left]
    direction = np.where(horizontal, np.where(forward, RIGHT, LEFT), np.where(forward, DOWN, UP)).astype(np.int8)
    return _Segments(
        np.where(forward, start, end),
        np.where(forward, end, start),
        direction,
        np.where(forward, right, left),
        np.where(forward, left, right),
    )


def _chain(segments: _Segments, corners: _Corners, labelled: Regions, block: Window, columns: int) -> Arcs:
    """Join the segments into arcs; `columns` is the number of corners in a row of the raster."""
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
    keys, following = _keys(segments, corners, np.stack([heads, last], axis=1), block, columns)
    ends = np.stack([segments.tail[heads], segments.head[last]], axis=1)
    sides = np.stack([segments.right[heads], segments.left[heads]], axis=1)
    points = np.stack([corners.x[sequence] + block.col, corners.y[sequence] + block.row], axis=1).astype(np.int32)
    return Arcs(points, starts, keys, following, corners.joint[ends], labelled.at(sides))


def _keys(segments: _Segments, corners: _Corners, ends: Index, block: Window, columns: int) -> tuple[Index, Index]:
    """Keys of both halves of each arc, and of the halves that follow; `ends` (arcs, 2) are its end segments."""
    leaving = segments.direction[ends].astype(np.int64)
    leaving[:, 1] ^= 2  # the backward half leaves the last segment's head in the opposite direction
    first_corner = np.stack([segments.tail[ends[:, 0]], segments.head[ends[:, 1]]], axis=1)
    corner_key = 4 * ((corners.y[first_corner] + block.row) * columns + corners.x[first_corner] + block.col)
    last_corner = first_corner[:, ::-1]
    arrival = leaving[:, ::-1] ^ 2
    turned = (arrival + 1) % 4  # to the right first, so that regions that touch at a corner only stay apart
    onward = np.where(
        corners.cracks[turned, last_corner],
        turned,
        np.where(corners.cracks[arrival, last_corner], arrival, (arrival + 3) % 4),
    )
    return corner_key + leaving, corner_key[:, ::-1] + onward
