"""How much labels count, pixel by pixel: one number for all of them, or a raster on the image's grid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.read.reader import BandReader
from co2s_cli.tiling import Window


class WeightReader(Protocol):
    """Weights of windows; for one thread."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """Weights (h, w), none of them negative, of `window`, which lies inside the scene."""


class LabelWeights(Protocol):
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
    def reader(self) -> Iterator[_WeightRasterReader]:
        """A reader with a GDAL handle of its own."""
        with reading(self.source) as dataset:
            yield _WeightRasterReader(BandReader(self.source, dataset))


@dataclass(frozen=True, slots=True)
class _WeightRasterReader:
    band: BandReader

    def read(self, window: Window) -> NDArray[np.float32]:
        raw = np.ma.asarray(self.band.read(window, masked=True))
        weights = raw.astype(np.float32) * self.band.dataset.scales[0] + self.band.dataset.offsets[0]
        filled = np.asarray(weights.filled(0), np.float32)
        if not (np.isfinite(filled).all() and (filled >= 0).all()):
            raise InputError(f"{self.band.source}: weights are finite and not negative, found {filled.min():g}")
        return filled


def open_weights(weights: float | Path, grid: Grid) -> LabelWeights:
    """The weights of the labels of a scene on `grid`.

    Raises:
        InputError: missing, unreadable, more than one band, or of another grid.
    """
    if not isinstance(weights, Path):
        return Uniform(weights)
    if not weights.is_file():
        raise InputError(f"{weights}: no such raster of weights")
    with reading(str(weights)) as dataset:
        weights_grid, bands = Grid.of(dataset), dataset.count
    if bands != 1:
        raise InputError(f"{weights}: weights are one band, found {bands}")
    problem = grid_problem(weights, weights_grid, grid)
    if problem is not None:
        raise problem
    return RasterWeights(str(weights), weights.stat().st_mtime_ns)
