"""Read a class raster, block by block, with a frame of one pixel around each block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from co2s_cli.classes import IGNORE
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import first_line, reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.legend import STEPS, Legend
from co2s_cli.geo.polygons.regions import OUTSIDE, Pixels
from co2s_cli.geo.read.checks import check_exists
from co2s_cli.tiling import Window

CACHE_BYTES = 32_000_000
"""GDAL's cache in each process that reads: a row of blocks of most files."""

_MAX_UNNAMED_VALUES = 128
"""Most different values of a class raster that has neither class names nor colours; one with more holds amounts."""
_SAMPLE_PIXELS = 1_000_000
"""Pixels in the middle of a raster whose different values are counted."""


@dataclass(frozen=True, slots=True)
class ClassRaster:
    """A class raster whose header, and where needed a sample of its pixels, has been checked."""

    source: str
    grid: Grid
    legend: Legend

    @classmethod
    def open(cls, source: str) -> ClassRaster:
        """Check a raster and read its grid and legend.

        Raises:
            InputError: the raster cannot be read, is not one band of bytes, or holds amounts rather than classes.
        """
        check_exists(source)
        with reading(source) as dataset:
            check_bytes(source, dataset, "a class raster")
            legend = Legend.of(dataset)
            _check_classes(source, dataset, legend)
            return cls(source, Grid.of(dataset), legend)

    def reader(self) -> contextlib.AbstractContextManager[ByteRasterReader]:
        """A reader with a GDAL handle of its own."""
        return byte_reader(self.source)


@contextlib.contextmanager
def byte_reader(source: str) -> Iterator[ByteRasterReader]:
    """A reader of a raster of one byte band, with a GDAL handle of its own."""
    with reading(source) as dataset:
        yield ByteRasterReader(dataset, source)


@dataclass(frozen=True, slots=True)
class ByteRasterReader:
    """Reads windows of an open raster of one byte band, or of one float32 band of fractions, which become bytes."""

    dataset: Any
    source: str

    def values(self, block: Window) -> Pixels:
        """(rows + 2, columns + 2) values of a block and one pixel around it; nodata 255, `OUTSIDE` beyond the edge."""
        frame, inner, window = self._frame(block)
        pixels = self._read(window)
        inner[...] = np.where(self._valid(pixels, window), pixels, IGNORE)
        return frame

    def strip(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """(rows, columns) values of the whole rows top … bottom - 1; nodata is 255."""
        return self.read(Window(top, 0, bottom - top, self.dataset.width))

    def valid_values(self, block: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(rows + 2, columns + 2) values of a block and one pixel around it, and True where a value is valid."""
        frame, inner, window = self._frame(block)
        pixels = self._read(window)
        inner[...] = np.where(self._valid(pixels, window), pixels, OUTSIDE)
        return frame.astype(np.uint8), frame != OUTSIDE

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) values of a window inside the raster; nodata is 255."""
        src_window = RasterioWindow(window.col, window.row, window.width, window.height)
        pixels = self._read(src_window)
        return np.where(self._valid(pixels, src_window), pixels, np.uint8(IGNORE))

    def _frame(self, block: Window) -> tuple[Pixels, Pixels, RasterioWindow]:
        """(rows + 2, columns + 2) array of `OUTSIDE`; the view of its part inside the raster; that part's window."""
        frame = np.full((block.height + 2, block.width + 2), OUTSIDE, np.uint16)
        top, bottom = max(block.row - 1, 0), min(block.bottom + 1, self.dataset.height)
        left, right = max(block.col - 1, 0), min(block.right + 1, self.dataset.width)
        inner = frame[top - block.row + 1 : bottom - block.row + 1, left - block.col + 1 : right - block.col + 1]
        return frame, inner, RasterioWindow(left, top, right - left, bottom - top)

    def _read(self, window: RasterioWindow) -> NDArray[np.uint8]:
        try:
            raw = np.asarray(self.dataset.read(1, window=window))
        except RasterioError as error:
            raise InputError(f"{self.source}: cannot be read ({first_line(error)})") from error
        return raw if raw.dtype == np.uint8 else _in_steps(raw)

    def _valid(self, pixels: NDArray[np.uint8], window: RasterioWindow) -> NDArray[np.bool_]:
        if MaskFlags.per_dataset in self.dataset.mask_flag_enums[0]:
            return np.asarray(self.dataset.read_masks(1, window=window)) > 0
        nodata = IGNORE if self.dataset.dtypes[0] != "uint8" else self.dataset.nodata
        return np.ones(pixels.shape, bool) if nodata is None else pixels != nodata


def _in_steps(fractions: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Fractions from 0 to 1 as bytes, in the steps in which `predict` stores them; NaN is 255."""
    steps = np.rint(np.clip(fractions, 0, 1) * STEPS)
    return np.where(np.isnan(steps), IGNORE, steps).astype(np.uint8)


def check_bytes(source: str, dataset: Any, kind: str) -> None:
    """Refuse a raster that is not one band of bytes; messages call the wanted raster `kind`."""
    check_one_band(source, dataset, kind)
    if dataset.dtypes[0] != "uint8":
        raise InputError(
            f"{source}: {kind} has uint8 values, found {dataset.dtypes[0]}",
            hint="convert it first, for example with gdal_translate -ot Byte",
        )


def _check_classes(source: str, dataset: Any, legend: Legend) -> None:
    """Refuse a band of amounts: one with a scale, or with very many values that have neither names nor colours."""
    hint = "give the class map, and a map of confidence with --confidence"
    if dataset.scales[0] != 1:
        raise InputError(
            f"{source}: a class raster has ids, found amounts (value × {dataset.scales[0]:.4g}), such as confidences",
            hint=hint,
        )
    if legend.named_count or ColorInterp.palette in dataset.colorinterp:
        return
    rows = min(_SAMPLE_PIXELS // dataset.width + 1, dataset.height)
    top = (dataset.height - rows) // 2
    count = len(np.unique(dataset.read(1, window=RasterioWindow(0, top, dataset.width, rows))))
    if count > _MAX_UNNAMED_VALUES:
        raise InputError(
            f"{source}: a class raster has few different values, or names for them; found {count} values without names",
            hint=hint,
        )


def check_one_band(source: str, dataset: Any, kind: str) -> None:
    """Refuse a raster that does not have exactly one band; messages call the wanted raster `kind`."""
    if dataset.count != 1:
        raise InputError(
            f"{source}: {kind} has one band, found {dataset.count} bands of {', '.join(sorted(set(dataset.dtypes)))}",
            hint="take one out, for example with gdal_translate -b 1",
        )


def confidence_scale(source: str, grid: Grid) -> float:
    """Factor that turns the values that `ByteRasterReader` reads of a confidence raster into confidences from 0 to 1.

    Raises:
        InputError: the raster cannot be read, is neither one band of bytes nor of float32 fractions, or does not lie on
            `grid`.
    """
    check_exists(source)
    with reading(source) as dataset:
        check_one_band(source, dataset, "a confidence raster")
        holds_bytes = dataset.dtypes[0] != "float32"
        if holds_bytes:
            check_bytes(source, dataset, "a confidence raster")
        problem = grid_problem(source, Grid.of(dataset), grid, of="class raster", kind="confidences")
        if problem is not None:
            raise problem
        return float(dataset.scales[0]) if holds_bytes else 1 / STEPS
