"""The whole scene in few pixels, and the first valid pixels of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.read.reader import Patch, RasterReader, SceneReader, filled
from co2s_cli.geo.read.shared import Pixels
from co2s_cli.tiling import Window

_COARSER = 8
"""An overview that is finer than wanted by more than this factor is not worth its reading by scattered rows."""

_SEARCH = 1024
"""Side, in pixels, of what is read at a time where the whole scene is gone through."""

_STRIDE = 0.6180339887498949
"""Golden ratio: steps of it visit an interval evenly, whenever one stops."""


def overview(reader: SceneReader, max_size: int) -> Patch:
    """The scene decimated to at most `max_size` pixels on its longer side, each the nearest one of the raster.

    Taken from the file's overviews where it has them, else from one pass over its blocks, so that memory stays
    bounded and no block is decoded twice.
    """
    raster, grid = reader.raster, reader.grid
    factor = max(1.0, max(grid.shape) / max_size)
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    rows, cols = _centres(height, raster.shape[0]), _centres(width, raster.shape[1])
    coarser = max(raster.shape[0] / height, raster.shape[1] / width)
    suits = any(coarser / _COARSER <= level <= coarser for level in raster.overviews)
    return filled(raster.decimated(rows, cols) if suits else _picked(raster, rows, cols))


def first_valid(reader: SceneReader) -> Patch | None:
    """The first patch with a valid pixel, looking here and there over the scene; None where there is none."""
    for window in spread(*reader.grid.shape, search_shape(reader.raster)):
        if reader.has_data(window):
            patch = reader.read(window)
            if patch.valid.any():
                return patch
    return None


def last_block(raster: RasterReader) -> Window:
    """The last block of a raster."""
    (height, width), (rows, cols) = raster.block_shape, raster.shape
    row, col = (rows - 1) // height * height, (cols - 1) // width * width
    return Window(row, col, rows - row, cols - col)


def search_shape(raster: RasterReader) -> tuple[int, int]:
    """Rows and columns, whole blocks of the raster, that are quick to read at a time."""
    height, width = raster.block_shape
    wide = width * max(1, min(-(-_SEARCH // width), -(-raster.shape[1] // width)))
    return height * max(1, _SEARCH * _SEARCH // (wide * height)), wide


def spread(height: int, width: int, shape: tuple[int, int]) -> Iterator[Window]:
    """All windows of a partition into `shape` pixels, in an order that visits every region early."""
    rows, cols = -(-height // shape[0]), -(-width // shape[1])
    count = rows * cols
    step = max(1, round(count * _STRIDE))
    while np.gcd(step, count) != 1:
        step += 1
    position = count // 2
    for _ in range(count):
        row, col = position // cols * shape[0], position % cols * shape[1]
        yield Window(row, col, min(shape[0], height - row), min(shape[1], width - col))
        position = (position + step) % count


def _picked(raster: RasterReader, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Pixels:
    """The pixels where `rows` and `cols`, both in order, cross."""
    pixels = np.zeros((len(raster.bands), len(rows), len(cols)), raster.dtype)
    valid = np.zeros((len(rows), len(cols)), np.bool_)
    high, wide = search_shape(raster)
    for at_rows in _runs(rows, high):
        for at_cols in _runs(cols, wide):
            cell_rows, cell_cols = rows[at_rows], cols[at_cols]
            top, left = int(cell_rows[0]), int(cell_cols[0])
            window = Window(top, left, int(cell_rows[-1]) - top + 1, int(cell_cols[-1]) - left + 1)
            if raster.may_hold(window):
                samples, known = raster.read(window)
                at = np.ix_(cell_rows - top, cell_cols - left)
                pixels[:, at_rows, at_cols], valid[at_rows, at_cols] = samples[:, at[0], at[1]], known[at]
    return pixels, valid


def _runs(positions: NDArray[np.intp], size: int) -> Iterator[slice]:
    """Runs of positions, which are in order, that lie in the same cell of `size` pixels."""
    starts = np.flatnonzero(np.diff(positions // size, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(positions)], strict=True):
        yield slice(int(first), int(last))


def _centres(count: int, length: int) -> NDArray[np.intp]:
    """The pixel of an axis that each of `count` equal parts has at its centre."""
    return ((2 * np.arange(count, dtype=np.intp) + 1) * length) // (2 * count)
