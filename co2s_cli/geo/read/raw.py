"""A raster's own pixels and which of them are valid, through one open handle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import FAILURES, first_line
from co2s_cli.geo.read.blocks import Blocks
from co2s_cli.geo.read.validity import Area, Rules
from co2s_cli.tiling import Window

PIECE = 4_000_000
"""Pixels that are held at a time where more are asked about than are wanted at once."""

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]
"""Samples (bands, h, w), whatever they hold where they are not valid, and validity (h, w), True = valid."""


class Raw:
    """Reads windows inside a raster; for one thread."""

    def __init__(self, source: str, dataset: Any, *, bands: tuple[int, ...], rules: Rules) -> None:
        self.bands = bands
        self.dtype = np.dtype(dataset.dtypes[bands[0] - 1])
        self.shape: tuple[int, int] = dataset.shape
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        self.overviews: tuple[int, ...] = tuple(dataset.overviews(1))
        """By how much each overview of the file is coarser."""
        self._source = source
        self._dataset = dataset
        self._rules = rules
        self._blocks = Blocks(dataset)

    def read(self, window: Window) -> Pixels:
        """The pixels of `window`."""
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
                part = Window(row, col, min(height, window.bottom - row), min(width, window.right - col))
                top, left = row - window.row, col - window.col
                valid[top : top + part.height, left : left + part.width] = self.read(part)[1]
        return valid

    def decimated(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Pixels:
        """The whole raster as GDAL decimates it from its overviews; `rows` and `cols` say where its pixels lie."""
        pixels, valid = self._take(Window(0, 0, *self.shape), (len(rows), len(cols)))
        return pixels, self._without_absent(valid, rows, cols)

    def may_hold(self, window: Window) -> bool:
        """False where the file holds none of the blocks of `window`."""
        return not self._rules.absent_is_invalid or self._blocks.any_present(window)

    def _take(self, window: Window, shape: tuple[int, int]) -> Pixels:
        area = Area(self._dataset, RasterioWindow(window.col, window.row, window.width, window.height), shape)
        try:
            pixels = area.pixels(self.bands)
            return pixels, self._rules.valid(area, self.bands, pixels)
        except FAILURES as error:
            where = f"rows {window.row} to {window.bottom}, columns {window.col} to {window.right}"
            raise InputError(f"{self._source}: {where} cannot be read ({first_line(error)})") from error

    def _without_absent(
        self, valid: NDArray[np.bool_], rows: NDArray[np.intp], cols: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        return valid & self._blocks.present(rows, cols) if self._rules.absent_is_invalid else valid
