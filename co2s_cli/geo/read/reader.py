"""Read windows of a scene as arrays: invalid pixels are filled, pixels beyond the edge of the scene are reflected."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import FAILURES, first_line, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.resample import resample, source_span
from co2s_cli.geo.read.shared import Piece, Pixels, SharedBlocks, assembled, piece_shape
from co2s_cli.geo.read.validity import RasterPart, Rules, StoredBlocks
from co2s_cli.tiling import Window

CHUNK_PIXELS = 4_000_000
"""Samples are read in parts of about so many pixels where only a smaller result is kept: validity, resampled pixels."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a window and their validity."""

    pixels: NDArray[Any]
    """(bands, h, w) in the scene's sample type; invalid pixels hold values of valid pixels nearby."""
    valid: NDArray[np.bool_]
    """(h, w), True = valid."""


class SceneReader:
    """Reads windows of one scene, resampled if its grid is, through one GDAL handle; belongs to one thread."""

    def __init__(self, raster: RasterReader, grid: Grid) -> None:
        self.raster = raster
        """Reader of the raster's own pixels."""
        self.grid = grid
        """Grid of the pixels that `read` returns."""

    def read(self, window: Window) -> Patch:
        """The pixels of `window`, which may extend beyond the scene's edge.

        Pixels beyond the edge are reflected and invalid. Invalid pixels get the values of the nearest valid pixel of
        their row, or of the nearest row that has one; zeros if the window has no valid pixel.
        """
        rows = reflected(window.row, window.bottom, self.grid.height)
        cols = reflected(window.col, window.right, self.grid.width)
        inner = _bounding_window(rows, cols)
        patch = filled(self._inside(inner))
        if inner == window:
            return patch
        picked = np.ix_(rows - inner.row, cols - inner.col)
        valid = patch.valid[picked]
        valid &= _within(window.row, window.bottom, self.grid.height)[:, None]
        valid &= _within(window.col, window.right, self.grid.width)
        return Patch(np.ascontiguousarray(patch.pixels[:, picked[0], picked[1]]), valid)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True where a pixel of `window`, which lies inside the scene, is valid."""
        return self._inside(window)[1] if self._resamples else self.raster.valid(window)

    def has_data(self, window: Window) -> bool:
        """False if certainly no pixel of `window` is valid: beyond the scene, or in blocks that a sparse file lacks."""
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        if top >= bottom or left >= right:
            return False
        return self.raster.may_hold(self._source(Window(top, left, bottom - top, right - left)))

    @property
    def _resamples(self) -> bool:
        return self.grid.shape != self.raster.shape

    def _inside(self, window: Window) -> Pixels:
        """Pixels and validity of a window inside the scene, resampled strip by strip if the grid is."""
        if not self._resamples:
            return self.raster.read(window)
        source = self._source(window)
        rows = max(1, CHUNK_PIXELS * window.height // (source.height * source.width))
        strips = [
            self._resampled(Window(row, window.col, min(rows, window.bottom - row), window.width))
            for row in range(window.row, window.bottom, rows)
        ]
        return np.concatenate([s[0] for s in strips], axis=1), np.concatenate([s[1] for s in strips], axis=0)

    def _resampled(self, window: Window) -> Pixels:
        """Resampled pixels and validity of a window inside the scene."""
        source = self._source(window)
        pixels, valid = self.raster.read(source)
        row_factor, col_factor = self.raster.shape[0] / self.grid.height, self.raster.shape[1] / self.grid.width
        left, right = window.col * col_factor - source.col, window.right * col_factor - source.col
        top, bottom = window.row * row_factor - source.row, window.bottom * row_factor - source.row
        return resample(pixels, valid, (left, top, right, bottom), (window.height, window.width))

    def _source(self, window: Window) -> Window:
        """The window of the raster from which a window inside the scene is computed."""
        top, bottom = source_span(window.row, window.bottom, self.grid.height, self.raster.shape[0])
        left, right = source_span(window.col, window.right, self.grid.width, self.raster.shape[1])
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True, slots=True)
class BandReader:
    """Reads windows of a raster of labels, weights or classes as they are stored; belongs to one thread."""

    source: str
    """File name or address, for messages."""
    dataset: Any
    """An open rasterio dataset."""

    def read(self, window: Window, *, band: int = 1, masked: bool = False) -> NDArray[Any]:
        """(h, w) values of `window`, which lies inside the raster; with `masked` as a numpy masked array."""
        src_window = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values: NDArray[Any] = self.dataset.read(band, window=src_window, masked=masked)
        except FAILURES as error:
            raise InputError(f"{self.source}: cannot be read ({first_line(error)})") from error
        return values

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """(rows, columns) values of the whole rows `top` … `bottom` - 1."""
        return self.read(Window(top, 0, bottom - top, self.dataset.width))


@contextlib.contextmanager
def band_reader(source: str) -> Iterator[BandReader]:
    """A reader of a one-band raster with a GDAL handle of its own."""
    with reading(source) as dataset:
        yield BandReader(source, dataset)


class RasterReader:
    """Reads a raster's own pixels inside its bounds, without filling, through one handle; belongs to one thread."""

    def __init__(
        self, source: str, dataset: Any, *, bands: tuple[int, ...], rules: Rules, shared: SharedBlocks | None = None
    ) -> None:
        """`shared`: cache of decoded blocks that all readers of this raster and these bands share."""
        self.bands = bands
        self.dtype = np.dtype(dataset.dtypes[bands[0] - 1])
        self.shape: tuple[int, int] = dataset.shape
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        self.overviews: tuple[int, ...] = tuple(dataset.overviews(1))
        """Decimation factor of each overview of the file."""
        self._source = source
        self._dataset = dataset
        self._rules = rules
        self._blocks = StoredBlocks(dataset)
        self._piece = piece_shape(self.block_shape, self.shape)
        self._shared = shared

    def read(self, window: Window) -> Pixels:
        """Pixels and validity of `window`."""
        if self._shared is None:
            return self._decoded(window)
        shared = self._shared
        return assembled(window, self._piece, lambda wanted: shared.pieces(wanted, self._decoded_piece))

    def _decoded_piece(self, piece: Piece) -> Pixels:
        """The pixels of a piece, clipped to the raster."""
        (height, width), (row, col) = self._piece, piece
        top, left = row * height, col * width
        return self._decoded(Window(top, left, min(height, self.shape[0] - top), min(width, self.shape[1] - left)))

    def _decoded(self, window: Window) -> Pixels:
        """The pixels of `window`, read by GDAL without the shared cache."""
        pixels, valid = self._take(window, (window.height, window.width))
        rows, cols = np.arange(window.row, window.bottom), np.arange(window.col, window.right)
        return pixels, self._without_absent(valid, rows, cols)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) validity of `window`; samples are read in parts, so that the window may be far larger than memory."""
        valid = np.ones((window.height, window.width), np.bool_)
        if self._rules.all_valid(self.dtype) and self._blocks.all_present(window):
            return valid
        width = min(window.width, CHUNK_PIXELS)
        height = max(1, CHUNK_PIXELS // width)
        for row in range(window.row, window.bottom, height):
            for col in range(window.col, window.right, width):
                chunk = Window(row, col, min(height, window.bottom - row), min(width, window.right - col))
                top, left = row - window.row, col - window.col
                valid[top : top + chunk.height, left : left + chunk.width] = self.read(chunk)[1]
        return valid

    def decimated(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Pixels:
        """The whole raster, decimated by GDAL from its overviews to pixels that stand for `rows` and `cols`."""
        pixels, valid = self._take(Window(0, 0, *self.shape), (len(rows), len(cols)))
        return pixels, self._without_absent(valid, rows, cols)

    def may_hold(self, window: Window) -> bool:
        """False if the file is sparse and holds none of the blocks of `window`."""
        return not self._rules.absent_is_invalid or self._blocks.any_present(window)

    def _take(self, window: Window, shape: tuple[int, int]) -> Pixels:
        """Pixels and validity of `window`, decimated to `shape`."""
        part = RasterPart(self._dataset, RasterioWindow(window.col, window.row, window.width, window.height), shape)
        try:
            pixels = part.pixels(self.bands)
            return pixels, self._rules.valid(part, self.bands, pixels)
        except FAILURES as error:
            where = f"rows {window.row} to {window.bottom}, columns {window.col} to {window.right}"
            raise InputError(f"{self._source}: {where} cannot be read ({first_line(error)})") from error

    def _without_absent(
        self, valid: NDArray[np.bool_], rows: NDArray[np.intp], cols: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """`valid`, with pixels in blocks that a sparse file lacks set to False."""
        return valid & self._blocks.present(rows, cols) if self._rules.absent_is_invalid else valid


def filled(pixels: Pixels) -> Patch:
    """A patch of `pixels` in which invalid pixels hold values of valid ones."""
    samples, valid = pixels
    return Patch(fill_invalid(samples, valid), valid)


def _within(start: int, stop: int, length: int) -> NDArray[np.bool_]:
    """(stop - start) True for positions `start` … `stop` - 1 that lie on an axis of `length` pixels."""
    positions = np.arange(start, stop)
    return (positions >= 0) & (positions < length)


def _bounding_window(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window:
    """The smallest window that holds all of the rows and columns."""
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)


def reflected(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Positions `start` … `stop` - 1 mirrored into an axis of `length` pixels, whose end pixels are not repeated."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)


def fill_invalid(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Pixels (bands, h, w) in which each invalid pixel holds the nearest valid pixel of its row, or of the nearest row.

    `valid` (h, w): True = valid. The result is zeros if no pixel is valid, and `pixels` itself if all are.
    """
    if valid.all():
        return pixels
    rows: NDArray[np.bool_] = np.any(valid, axis=1)
    if not rows.any():
        return np.zeros_like(pixels)
    row = _nearest(rows[None])[0]
    col = _nearest(valid)[row]
    flat = pixels.reshape(len(pixels), -1)
    filled: NDArray[Any] = flat.take(row[:, None] * valid.shape[1] + col, axis=1)
    return filled


def _nearest(valid: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(rows, columns) column of the nearest True in the same row, the left of two equally near; arbitrary if none."""
    width = valid.shape[1]
    position = np.arange(width)
    left = np.maximum.accumulate(np.where(valid, position, -width), axis=1)
    right = np.minimum.accumulate(np.where(valid, position, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    return np.clip(np.where(position - left <= right - position, left, right), 0, width - 1)
