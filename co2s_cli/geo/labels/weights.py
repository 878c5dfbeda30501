"""How much labels count, pixel by pixel: one number for all of them, or a raster on the image's grid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import first_line, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import grid_problem
from co2s_cli.tiling import Window


class WeightReader(Protocol):
    """Weights of windows; for one thread."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """Weights (h, w), none of them negative, of `window`, which lies inside the scene."""


class Weights(Protocol):
    """The weights of one scene's labels; nothing here is open. What `repr` says changes when they may have changed."""

    def reader(self) -> contextlib.AbstractContextManager[WeightReader]:
        """A reader with handles of its own."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """The same weight everywhere."""

    weight: float

    @contextlib.contextmanager
    def reader(self) -> Iterator[Uniform]:
        """Nothing to open: all threads may share it."""
        yield self

    def read(self, window: Window) -> NDArray[np.float32]:
        """The weight (h, w) times."""
        return np.full((window.height, window.width), self.weight, np.float32)


@dataclass(frozen=True, slots=True)
class RasterWeights:
    """A raster of one band, with scale and offset as it says; its nodata has the weight 0."""

    source: str
    changed: int
    """Time of the file's last change, in nanoseconds."""

    @contextlib.contextmanager
    def reader(self) -> Iterator[_Reader]:
        """A reader with a GDAL handle of its own."""
        with reading(self.source) as dataset:
            yield _Reader(self.source, dataset)


@dataclass(frozen=True, slots=True)
class _Reader:
    source: str
    dataset: Any

    def read(self, window: Window) -> NDArray[np.float32]:
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            raw = self.dataset.read(1, window=place, masked=True)
        except RasterioError as error:
            raise InputError(f"{self.source}: cannot be read ({first_line(error)})") from error
        weights = raw.astype(np.float32) * self.dataset.scales[0] + self.dataset.offsets[0]
        filled = np.asarray(weights.filled(0), np.float32)
        if not (np.isfinite(filled).all() and (filled >= 0).all()):
            raise InputError(f"{self.source}: weights are finite and not negative, found {filled.min():g}")
        return filled


def open_weights(weights: float | Path, grid: Grid) -> Weights:
    """The weights of the labels of a scene on `grid`.

    Raises:
        InputError: missing, unreadable, more than one band, or of another grid.
    """
    if not isinstance(weights, Path):
        return Uniform(weights)
    if not weights.is_file():
        raise InputError(f"{weights}: no such raster of weights")
    with reading(str(weights)) as dataset:
        own, bands = Grid.of(dataset), dataset.count
    if bands != 1:
        raise InputError(f"{weights}: weights are one band, found {bands}")
    problem = grid_problem(weights, own, grid)
    if problem is not None:
        raise problem
    return RasterWeights(str(weights), weights.stat().st_mtime_ns)
