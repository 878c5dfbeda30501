"""Decimate a whole scene to few pixels, and find a first window with valid pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.read.reader import Patch, RasterReader, SceneReader, filled
from co2s_cli.geo.read.shared import Pixels
from co2s_cli.tiling import Window

_MAX_EXCESS = 8
"""Overviews that are finer than wanted by more than this factor are not used: GDAL reads them in scattered rows, and
one pass over the full resolution is faster."""

_SEARCH_SIDE = 1024
"""Side in pixels of the windows in which a whole scene is read."""

_GOLDEN_RATIO = 0.6180339887498949
"""Steps of this share of an interval visit it evenly, however early one stops."""


def overview(reader: SceneReader, max_size: int) -> Patch:
    """The scene decimated, by nearest pixel, to at most `max_size` pixels on its longer side.

    Read from the file's overviews if it has suitable ones, else in one pass over its blocks, so that memory is bounded
    and no block is decoded twice.
    """
    raster, grid = reader.raster, reader.grid
    factor = max(1.0, max(grid.shape) / max_size)
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    rows, cols = _centres(height, raster.shape[0]), _centres(width, raster.shape[1])
    decimation = max(raster.shape[0] / height, raster.shape[1] / width)
    has_overview = any(decimation / _MAX_EXCESS <= level <= decimation for level in raster.overviews)
    return filled(raster.decimated(rows, cols) if has_overview else _picked(raster, rows, cols))


def first_valid(reader: SceneReader) -> Patch | None:
    """A patch with a valid pixel, the first in an order that jumps all over the scene; None if no pixel is valid."""
    for window in scattered_windows(*reader.grid.shape, search_window_shape(reader.raster)):
        if reader.has_data(window):
            patch = reader.read(window)
            if patch.valid.any():
                return patch
    return None


def last_block(raster: RasterReader) -> Window:
    """The window of the last block of a raster."""
    (height, width), (rows, cols) = raster.block_shape, raster.shape
    row, col = (rows - 1) // height * height, (cols - 1) // width * width
    return Window(row, col, rows - row, cols - col)


def search_window_shape(raster: RasterReader) -> tuple[int, int]:
    """Rows and columns of a window of whole blocks with about `_SEARCH_SIDE`² pixels."""
    height, width = raster.block_shape
    columns = width * max(1, min(-(-_SEARCH_SIDE // width), -(-raster.shape[1] // width)))
    return height * max(1, _SEARCH_SIDE * _SEARCH_SIDE // (columns * height)), columns


def scattered_windows(height: int, width: int, shape: tuple[int, int]) -> Iterator[Window]:
    """All windows of a partition of `height` × `width` pixels into windows of `shape`, in a scattered order.

    The order visits every part of the partition early.
    """
    rows, cols = -(-height // shape[0]), -(-width // shape[1])
    count = rows * cols
    step = max(1, round(count * _GOLDEN_RATIO))
    while np.gcd(step, count) != 1:
        step += 1
    position = count // 2
    for _ in range(count):
        row, col = position // cols * shape[0], position % cols * shape[1]
        yield Window(row, col, min(shape[0], height - row), min(shape[1], width - col))
        position = (position + step) % count


def _picked(raster: RasterReader, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Pixels:
    """The pixels at the crossings of `rows` and `cols`, both ascending, and their validity."""
    pixels = np.zeros((len(raster.bands), len(rows), len(cols)), raster.dtype)
    valid = np.zeros((len(rows), len(cols)), np.bool_)
    cell_height, cell_width = search_window_shape(raster)
    for dst_rows in _runs(rows, cell_height):
        for dst_cols in _runs(cols, cell_width):
            src_rows, src_cols = rows[dst_rows], cols[dst_cols]
            top, left = int(src_rows[0]), int(src_cols[0])
            window = Window(top, left, int(src_rows[-1]) - top + 1, int(src_cols[-1]) - left + 1)
            if raster.may_hold(window):
                samples, samples_valid = raster.read(window)
                picked = np.ix_(src_rows - top, src_cols - left)
                pixels[:, dst_rows, dst_cols] = samples[:, picked[0], picked[1]]
                valid[dst_rows, dst_cols] = samples_valid[picked]
    return pixels, valid


def _runs(positions: NDArray[np.intp], size: int) -> Iterator[slice]:
    """Slices of ascending positions that lie in the same cell of `size` pixels."""
    starts = np.flatnonzero(np.diff(positions // size, prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(positions)], strict=True):
        yield slice(int(first), int(last))


def _centres(count: int, length: int) -> NDArray[np.intp]:
    """(count) the pixel at the centre of each of `count` equal parts of an axis of `length` pixels."""
    return ((2 * np.arange(count, dtype=np.intp) + 1) * length) // (2 * count)
