"""Windows of a scene as arrays: never boundless, invalid pixels filled, scene edges reflected."""

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

PIECE = 4_000_000
"""Pixels that are held at a time where more are asked about than are wanted at once."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a window."""

    pixels: NDArray[Any]
    """(bands, h, w) in the scene's sample type; invalid pixels hold values of valid ones nearby."""
    valid: NDArray[np.bool_]
    """(h, w), True = valid."""


class SceneReader:
    """Reads windows of one scene through one GDAL handle; for one thread."""

    def __init__(self, raster: RasterReader, grid: Grid) -> None:
        self.raster = raster
        """The raster's own pixels."""
        self.grid = grid
        """The pixels that are handed out."""

    def read(self, window: Window) -> Patch:
        """The pixels of `window`, which may reach over the scene's edge.

        Beyond the edge pixels are reflected and invalid. Invalid pixels get the values of the nearest valid pixel of
        their row, or of the nearest row that has one; zeros where the window has no valid pixel at all.
        """
        rows = reflected(window.row, window.bottom, self.grid.height)
        cols = reflected(window.col, window.right, self.grid.width)
        inner = _around(rows, cols)
        patch = filled(self._inside(inner))
        if inner == window:
            return patch
        picked = np.ix_(rows - inner.row, cols - inner.col)
        valid = patch.valid[picked]
        valid &= _within(window.row, window.bottom, self.grid.height)[:, None]
        valid &= _within(window.col, window.right, self.grid.width)
        return Patch(np.ascontiguousarray(patch.pixels[:, picked[0], picked[1]]), valid)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels (h, w) of `window`, which lies inside the scene, are valid; True = valid."""
        return self._inside(window)[1] if self._resamples else self.raster.valid(window)

    def has_data(self, window: Window) -> bool:
        """False where surely no pixel of `window` is valid: off the scene, or in blocks that a sparse file lacks."""
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        if top >= bottom or left >= right:
            return False
        return self.raster.may_hold(self._source(Window(top, left, bottom - top, right - left)))

    @property
    def _resamples(self) -> bool:
        return self.grid.shape != self.raster.shape

    def _inside(self, window: Window) -> Pixels:
        """Pixels and validity of a window inside the scene."""
        if not self._resamples:
            return self.raster.read(window)
        source = self._source(window)
        rows = max(1, PIECE * window.height // (source.height * source.width))
        strips = [
            self._resampled(Window(row, window.col, min(rows, window.bottom - row), window.width))
            for row in range(window.row, window.bottom, rows)
        ]
        return np.concatenate([s[0] for s in strips], axis=1), np.concatenate([s[1] for s in strips], axis=0)

    def _resampled(self, window: Window) -> Pixels:
        source = self._source(window)
        pixels, valid = self.raster.read(source)
        high, wide = self.raster.shape[0] / self.grid.height, self.raster.shape[1] / self.grid.width
        left, right = window.col * wide - source.col, window.right * wide - source.col
        top, bottom = window.row * high - source.row, window.bottom * high - source.row
        return resample(pixels, valid, (left, top, right, bottom), (window.height, window.width))

    def _source(self, window: Window) -> Window:
        """The part of the raster that a window inside the scene is made of."""
        top, bottom = source_span(window.row, window.bottom, self.grid.height, self.raster.shape[0])
        left, right = source_span(window.col, window.right, self.grid.width, self.raster.shape[1])
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True, slots=True)
class BandReader:
    """Reads one-band rasters (labels, weights, maps) as they are stored; for one thread."""

    source: str
    """File name or address, for messages."""
    dataset: Any
    """An open rasterio dataset."""

    def read(self, window: Window, *, band: int = 1, masked: bool = False) -> NDArray[Any]:
        """Values (h, w) of `window`, which lies inside the raster; `masked`: a numpy masked array, True = invalid."""
        src_window = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values: NDArray[Any] = self.dataset.read(band, window=src_window, masked=masked)
        except FAILURES as error:
            raise InputError(f"{self.source}: cannot be read ({first_line(error)})") from error
        return values

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Whole rows `top` … `bottom` - 1, as they are stored."""
        return self.read(Window(top, 0, bottom - top, self.dataset.width))


@contextlib.contextmanager
def band_reader(source: str) -> Iterator[BandReader]:
    """A reader of a one-band raster with a GDAL handle of its own."""
    with reading(source) as dataset:
        yield BandReader(source, dataset)


class RasterReader:
    """Reads the raster's own pixels inside its bounds, unfilled, through one open handle; for one thread."""

    def __init__(
        self, source: str, dataset: Any, *, bands: tuple[int, ...], rules: Rules, shared: SharedBlocks | None = None
    ) -> None:
        """`shared`: the decoded blocks of all readers of this raster and these bands."""
        self.bands = bands
        self.dtype = np.dtype(dataset.dtypes[bands[0] - 1])
        self.shape: tuple[int, int] = dataset.shape
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        self.overviews: tuple[int, ...] = tuple(dataset.overviews(1))
        """By how much each overview of the file is coarser."""
        self._source = source
        self._dataset = dataset
        self._rules = rules
        self._blocks = StoredBlocks(dataset)
        self._piece = piece_shape(self.block_shape, self.shape)
        self._shared = shared

    def read(self, window: Window) -> Pixels:
        """The pixels of `window`."""
        if self._shared is None:
            return self._decoded(window)
        shared = self._shared
        return assembled(window, self._piece, lambda wanted: shared.pieces(wanted, self._decoded_piece))

    def _decoded_piece(self, piece: Piece) -> Pixels:
        """The pixels of a piece, as far as the raster goes."""
        (height, width), (row, col) = self._piece, piece
        top, left = row * height, col * width
        return self._decoded(Window(top, left, min(height, self.shape[0] - top), min(width, self.shape[1] - left)))

    def _decoded(self, window: Window) -> Pixels:
        """The pixels of `window`, from GDAL."""
        pixels, valid = self._take(window, (window.height, window.width))
        rows, cols = np.arange(window.row, window.bottom), np.arange(window.col, window.right)
        return pixels, self._without_absent(valid, rows, cols)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """The validity of the pixels of `window`, which may be far larger than what is held of its samples."""
        valid = np.ones((window.height, window.width), np.bool_)
        if self._rules.all_valid(self.dtype) and self._blocks.all_present(window):
            return valid
        width = min(window.width, PIECE)
        height = max(1, PIECE // width)
        for row in range(window.row, window.bottom, height):
            for col in range(window.col, window.right, width):
                piece = Window(row, col, min(height, window.bottom - row), min(width, window.right - col))
                top, left = row - window.row, col - window.col
                valid[top : top + piece.height, left : left + piece.width] = self.read(piece)[1]
        return valid

    def decimated(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Pixels:
        """The whole raster as GDAL decimates it from its overviews; `rows` and `cols` say where its pixels lie."""
        pixels, valid = self._take(Window(0, 0, *self.shape), (len(rows), len(cols)))
        return pixels, self._without_absent(valid, rows, cols)

    def may_hold(self, window: Window) -> bool:
        """False where the file holds none of the blocks of `window`."""
        return not self._rules.absent_is_invalid or self._blocks.any_present(window)

    def _take(self, window: Window, shape: tuple[int, int]) -> Pixels:
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
        return valid & self._blocks.present(rows, cols) if self._rules.absent_is_invalid else valid


def filled(pixels: Pixels) -> Patch:
    """A patch whose invalid pixels hold values of valid ones."""
    samples, valid = pixels
    return Patch(fill_invalid(samples, valid), valid)


def _within(start: int, stop: int, length: int) -> NDArray[np.bool_]:
    """Which positions `start` … `stop` lie on an axis of `length` pixels."""
    at = np.arange(start, stop)
    return (at >= 0) & (at < length)


def _around(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window:
    """The smallest window that holds all of the rows and columns."""
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)


def reflected(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Positions `start` … `stop` of an axis of `length` pixels, mirrored at its ends without repeating them."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)


def fill_invalid(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Pixels (bands, h, w) where each invalid one holds the nearest valid one of its row, else of the nearest row.

    `valid`: (h, w), True = valid. Zeros where nothing is valid; the array itself where everything is.
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
    """Position of the nearest True along each row (the left one of two equally near); any position in rows without."""
    width = valid.shape[1]
    position = np.arange(width)
    left = np.maximum.accumulate(np.where(valid, position, -width), axis=1)
    right = np.minimum.accumulate(np.where(valid, position, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    return np.clip(np.where(position - left <= right - position, left, right), 0, width - 1)
