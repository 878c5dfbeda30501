"""Trace the borders between the regions of a class raster, block by block, as arcs from node to node.

- Corner: a corner of pixels; corner (x, y) lies left of column x and above row y.
- Crack: the unit edge between two neighbouring pixels that differ.
- Node: a corner with three or four cracks, where three regions (or nodata, or the frame) meet or two touch diagonally.
- Joint: a corner with two cracks at which a continuing border is cut into two arcs. Joints lie on the first and last
  row and column of corners of every block and on fixed rows, so that every arc lies within one block.
- Arc: a border from node or joint to node or joint. An arc without any is closed; it starts at its smallest corner in
  raster order.

Cracks on the first row and column of corners of a block belong to that block; those on its last row and column belong
to the next blocks.

Every arc runs with the smaller value on its right. It is stored as two halves, forward and backward, each with the
region on its right. The key of a half is 4 · (index of the corner where it starts) + direction. Each half also holds
the key of the half that follows it around its region.
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
    """(points, 2) corners x, y, arc after arc, without corners inside straight lines."""
    starts: Index
    """(arcs + 1) index of the first point of each arc; the last entry is the number of points."""
    keys: Index
    """(arcs, 2) key of each half."""
    following: Index
    """(arcs, 2) key of the half that follows each half around its region."""
    joint: NDArray[np.bool_]
    """(arcs, 2) True where the half starts at a joint."""
    region: Index
    """(arcs, 2) region on the right of each half; nodata and the outside of the raster are regions too."""


@dataclass(frozen=True, slots=True)
class TracedBlock:
    """The arcs and the regions of a block."""

    arcs: Arcs
    regions: Regions
    """Regions of the block's pixels, with the row above it and the column left of it, which belong to other blocks."""


@dataclass(frozen=True, slots=True)
class _Corners:
    """Corners at which a border turns, meets other borders, or is cut; in raster order."""

    x: Index
    """(corners) column of the corner, counted from the left side of the block."""
    y: Index
    """(corners) row of the corner, counted from the top of the block."""
    cracks: NDArray[np.bool_]
    """(4, corners) by direction: True where a crack leaves the corner in that direction."""
    stop: NDArray[np.bool_]
    """(corners) True at nodes and joints, where arcs end."""

    @property
    def joint(self) -> NDArray[np.bool_]:
        """(corners) True at joints: an arc ends, but the border continues."""
        return np.asarray(self.stop & (self.cracks.sum(axis=0) == 2))


@dataclass(frozen=True, slots=True)
class _Segments:
    """Straight lines between two corners of `_Corners`, directed so that the smaller value is on the right.

    Pixels are indices into the raveled (rows + 1, columns + 1) pixels whose regions are in `TracedBlock`.
    """

    tail: Index
    """(segments) corner at which the segment starts."""
    head: Index
    """(segments) corner at which the segment ends."""
    direction: NDArray[np.int8]
    """(segments) `RIGHT`, `DOWN`, `LEFT` or `UP`."""
    right: Index
    """(segments) pixel on the right of the segment's start."""
    left: Index
    """(segments) pixel on the left of the segment's start."""


def trace(pixels: Pixels, block: Window, *, width: int, joints_every: int = 0) -> TracedBlock:
    """The arcs and regions of a block.

    Args:
        pixels: (rows + 2, columns + 2) values of the block and of one pixel around it; `OUTSIDE` beyond the raster.
        block: Position of the block in the raster. Blocks on the lower (right) side of the raster have one row (column)
            more than the raster, so that the cracks on its border are traced.
        width: Columns of the raster.
        joints_every: Arcs are cut on rows of corners that are multiples of it; 0 cuts at block borders only.
    """
    corners = _corners(pixels, block.row, joints_every)
    inside = np.ascontiguousarray(pixels[:-1, :-1])
    segments = _segments(inside, corners)
    block_regions = regions.find(inside)
    return TracedBlock(_chain(segments, corners, block_regions, block, width + 1), block_regions)


def _corners(pixels: Pixels, top: int, joints_every: int) -> _Corners:
    """Corners at which a horizontal and a vertical crack meet, and all joints."""
    vertical = pixels[:, 1:] != pixels[:, :-1]
    horizontal = pixels[1:] != pixels[:-1]
    above, below = vertical[:-1], vertical[1:]
    is_corner = (above | below) & (horizontal[:, :-1] | horizontal[:, 1:])
    has_joints = np.zeros(len(is_corner), bool)  # by row of corners
    has_joints[0] = has_joints[-1] = True
    if joints_every:
        has_joints[-top % joints_every :: joints_every] = True
    is_corner[has_joints] |= above[has_joints]
    is_corner[:, 0] |= horizontal[:, 0]
    is_corner[:, -1] = horizontal[:, -2]
    is_corner[-1, :-1], is_corner[-1, -1] = above[-1, :-1], False
    y, x = np.nonzero(is_corner)
    cracks = np.stack([horizontal[y, x + 1], below[y, x], horizontal[y, x], above[y, x]])
    at_side = (x == 0) | (x == is_corner.shape[1] - 1)
    return _Corners(x, y, cracks, (cracks.sum(axis=0) > 2) | (has_joints[y] & cracks[UP]) | (at_side & cracks[LEFT]))


def _segments(inside: Pixels, corners: _Corners) -> _Segments:
    """All segments of the block, the horizontal ones first.

    A segment goes from `start` to `end`, the next listed corner in the same row or column, and is reversed where the
    smaller value would be on its left.
    """
    height, width = inside.shape
    # cracks that leave the last column to the right, or the last row downwards, belong to other blocks
    inner = (corners.y < height - 1) & (corners.x < width - 1)
    horizontal_start = np.flatnonzero(corners.cracks[RIGHT] & inner)
    by_column = np.argsort(corners.x.astype(np.uint16) if width < 2**16 else corners.x, kind="stable")
    vertical_start = np.flatnonzero((corners.cracks[DOWN] & inner)[by_column])  # positions in `by_column`
    start = np.concatenate([horizontal_start, by_column[vertical_start]])
    end = np.concatenate([horizontal_start + 1, by_column[vertical_start + 1]])
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


def _chain(segments: _Segments, corners: _Corners, block_regions: Regions, block: Window, columns: int) -> Arcs:
    """Join the segments into arcs; `columns` is the number of corners in a row of the raster."""
    arriving = np.full(len(corners.x), -1, np.int64)  # segment that ends at each corner
    arriving[segments.head] = np.arange(len(segments.head))
    starts_arc = corners.stop[segments.tail]
    first, steps = order(np.where(starts_arc, np.arange(len(starts_arc)), arriving[segments.tail]), segments.tail)
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
    return Arcs(points, starts, keys, following, corners.joint[ends], block_regions.at(sides))


def _keys(segments: _Segments, corners: _Corners, ends: Index, block: Window, columns: int) -> tuple[Index, Index]:
    """(arcs, 2) keys of both halves of each arc, and of the halves that follow them.

    `ends` (arcs, 2) are the first and the last segment of each arc.
    """
    leaving = segments.direction[ends].astype(np.int64)
    leaving[:, 1] ^= 2  # the backward half leaves the last segment's head in the opposite direction
    first_corner = np.stack([segments.tail[ends[:, 0]], segments.head[ends[:, 1]]], axis=1)
    corner_key = 4 * ((corners.y[first_corner] + block.row) * columns + corners.x[first_corner] + block.col)
    last_corner = first_corner[:, ::-1]
    arrival = leaving[:, ::-1] ^ 2
    right_turn = (arrival + 1) % 4  # tried first, so that regions that touch at a corner only stay apart
    onward = np.where(
        corners.cracks[right_turn, last_corner],
        right_turn,
        np.where(corners.cracks[arrival, last_corner], arrival, (arrival + 3) % 4),
    )
    return corner_key + leaving, corner_key[:, ::-1] + onward
