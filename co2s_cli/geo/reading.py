"""Windows of a scene as arrays: never boundless, invalid pixels filled, scene edges reflected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError
from co2s_cli.geo.blocks import Blocks
from co2s_cli.geo.fill import fill_invalid, reflected
from co2s_cli.geo.gdal import FAILURES, first_line
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.resample import resample, source_span
from co2s_cli.geo.validity import Area, Rules
from co2s_cli.tiling import Window

STRIP_PIXELS = 4_000_000
"""Raster pixels that resampling holds at a time."""

_COARSER = 8
"""An overview that is finer than wanted by more than this factor is not worth its reading by scattered rows."""

_SEARCH = 1024
"""Side, in pixels, of what is read at a time where the whole scene is gone through."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a window."""

    pixels: NDArray[Any]
    """(bands, h, w) in the scene's sample type; invalid pixels hold values of valid ones nearby."""
    valid: NDArray[np.bool_]
    """(h, w), True = valid."""


class Reader:
    """Reads windows of one scene through one GDAL handle; for one thread."""

    def __init__(
        self, source: str, dataset: Any, *, bands: tuple[int, ...], rules: Rules, grid: Grid, original: Grid
    ) -> None:
        self.dataset = dataset
        self.grid = grid
        self.original = original
        self.bands = bands
        self._source = source
        self._rules = rules
        self._blocks = Blocks(dataset)

    def read(self, window: Window) -> Patch:
        """The pixels of `window`, which may reach over the scene's edge.

        Beyond the edge pixels are reflected and invalid. Invalid pixels get the values of the nearest valid pixel of
        their row, or of the nearest row that has one; zeros where the window has no valid pixel at all.
        """
        rows = reflected(window.row, window.bottom, self.grid.height)
        cols = reflected(window.col, window.right, self.grid.width)
        top, left = int(rows.min()), int(cols.min())
        inner = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
        patch = self._filled(inner)
        if inner == window:
            return patch
        picked = np.ix_(rows - top, cols - left)
        valid = patch.valid[picked]
        valid &= _within(window.row, window.bottom, self.grid.height)[:, None]
        valid &= _within(window.col, window.right, self.grid.width)
        return Patch(np.ascontiguousarray(patch.pixels[:, picked[0], picked[1]]), valid)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels (h, w) of `window`, which lies inside the scene, are valid; True = valid."""
        return self._inside(window)[1]

    def has_data(self, window: Window) -> bool:
        """False where surely no pixel of `window` is valid: off the scene, or in blocks that a sparse file lacks."""
        return self._has_data(self._footprint(window))

    def decimated(self, height: int, width: int) -> Patch:
        """The whole scene as `height` × `width` pixels, each the nearest one of the scene.

        Taken from the file's overviews where it has them, else from one pass over its blocks, so that memory stays
        bounded and no block is decoded twice.
        """
        rows, cols = _centres(height, self.original.height), _centres(width, self.original.width)
        factor = max(self.original.height / height, self.original.width / width)
        if any(factor / _COARSER <= level <= factor for level in self.dataset.overviews(1)):
            pixels, valid = self._take(Window(0, 0, *self.original.shape), (height, width))
            if self._rules.absent_is_invalid:
                valid &= self._blocks.present(rows, cols)
        else:
            pixels, valid = self._picked(rows, cols)
        return Patch(fill_invalid(pixels, valid), valid)

    def search_shape(self) -> tuple[int, int]:
        """Rows and columns, whole blocks of the raster, that are quick to read at a time."""
        height, width = self.dataset.block_shapes[0]
        wide = width * max(1, min(-(-_SEARCH // width), -(-self.original.width // width)))
        return height * max(1, _SEARCH * _SEARCH // (wide * height)), wide

    def _picked(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The pixels where `rows` and `cols`, both in order, cross."""
        pixels = np.zeros((len(self.bands), len(rows), len(cols)), self.dataset.dtypes[self.bands[0] - 1])
        valid = np.zeros((len(rows), len(cols)), np.bool_)
        high, wide = self.search_shape()
        for top in range(0, self.original.height, high):
            at_row = slice(*np.searchsorted(rows, (top, top + high)))
            for left in range(0, self.original.width, wide):
                at_col = slice(*np.searchsorted(cols, (left, left + wide)))
                here, there = rows[at_row], cols[at_col]
                if here.size and there.size:
                    window = Window(
                        int(here[0]), int(there[0]), int(here[-1] - here[0]) + 1, int(there[-1] - there[0]) + 1
                    )
                    if not self._has_data(window):
                        continue
                    part, known = self._native(window)
                    picked = np.ix_(here - here[0], there - there[0])
                    pixels[:, at_row, at_col], valid[at_row, at_col] = part[:, picked[0], picked[1]], known[picked]
        return pixels, valid

    def _filled(self, window: Window) -> Patch:
        pixels, valid = self._inside(window)
        return Patch(fill_invalid(pixels, valid), valid)

    def _inside(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Pixels and validity of a window inside the grid in use."""
        if self.grid.shape == self.original.shape:
            return self._native(window)
        rows = max(1, STRIP_PIXELS * window.height // max(1, _area(self._source_window(window))))
        strips = [
            self._resampled(Window(row, window.col, min(rows, window.bottom - row), window.width))
            for row in range(window.row, window.bottom, rows)
        ]
        return np.concatenate([s[0] for s in strips], axis=1), np.concatenate([s[1] for s in strips], axis=0)

    def _resampled(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        source = self._source_window(window)
        pixels, valid = self._native(source)
        fy, fx = self.original.height / self.grid.height, self.original.width / self.grid.width
        box = (
            window.col * fx - source.col,
            window.row * fy - source.row,
            window.right * fx - source.col,
            window.bottom * fy - source.row,
        )
        return resample(pixels, valid, box, (window.height, window.width))

    def _source_window(self, window: Window) -> Window:
        top, bottom = source_span(window.row, window.bottom, self.grid.height, self.original.height)
        left, right = source_span(window.col, window.right, self.grid.width, self.original.width)
        return Window(top, left, bottom - top, right - left)

    def _native(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw pixels of the raster itself and their validity."""
        pixels, valid = self._take(window, (window.height, window.width))
        if self._rules.absent_is_invalid:
            valid &= self._blocks.present(*map(np.arange, (window.row, window.col), (window.bottom, window.right)))
        return pixels, valid

    def _take(self, window: Window, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        area = Area(self.dataset, RasterioWindow(window.col, window.row, window.width, window.height), shape)
        try:
            pixels = area.pixels(self.bands)
            return pixels, self._rules.valid(area, self.bands, pixels)
        except FAILURES as error:
            where = f"rows {window.row} to {window.bottom}, columns {window.col} to {window.right}"
            raise InputError(f"{self._source}: {where} cannot be read ({first_line(error)})") from error

    def _footprint(self, window: Window) -> Window | None:
        """The part of the raster that a window of the grid in use is made of; None off the scene."""
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        if top >= bottom or left >= right:
            return None
        return self._source_window(Window(top, left, bottom - top, right - left))

    def _has_data(self, footprint: Window | None) -> bool:
        if footprint is None:
            return False
        return not self._rules.absent_is_invalid or self._blocks.any_present(footprint)


def _centres(count: int, length: int) -> NDArray[np.intp]:
    """The pixel of an axis that each of `count` equal parts has at its centre."""
    return ((2 * np.arange(count, dtype=np.intp) + 1) * length) // (2 * count)


def _within(start: int, stop: int, length: int) -> NDArray[np.bool_]:
    """Which positions `start` … `stop` lie on an axis of `length` pixels."""
    at = np.arange(start, stop)
    return (at >= 0) & (at < length)


def _around(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window:
    """The smallest window that holds all of the rows and columns, which are in order."""
    return Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)


def _area(window: Window) -> int:
    return window.height * window.width
