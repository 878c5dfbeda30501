"""Weights of labels in the loss, pixel by pixel: one number for all pixels, or a raster on the image's grid."""

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
    """Reads weights of windows; an instance belongs to one thread."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(h, w) weights >= 0 of `window`, which lies inside the scene."""


class LabelWeights(Protocol):
    """The weights of one scene's labels; holds no open file.

    Its `repr` changes if the weights may have changed: the fingerprint of the training data is made from it.
    """

    def reader(self) -> contextlib.AbstractContextManager[WeightReader]:
        """A reader with file handles of its own."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """The same weight everywhere."""

    weight: float

    @contextlib.contextmanager
    def reader(self) -> Iterator[Uniform]:
        """This object itself: no file is opened, and threads may share it."""
        yield self

    def read(self, window: Window) -> NDArray[np.float32]:
        """(h, w) the weight in every pixel."""
        return np.full((window.height, window.width), self.weight, np.float32)


@dataclass(frozen=True, slots=True)
class RasterWeights:
    """Weights in a raster of one band, whose scale and offset are applied; nodata has the weight 0."""

    source: str
    changed: int
    """Modification time of the file in nanoseconds, which makes `repr` change with the file."""

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
            raise InputError(f"{self.band.source}: weights must be finite and not negative, found {filled.min():g}")
        return filled


def open_weights(weights: float | Path, grid: Grid) -> LabelWeights:
    """The weights of the labels of a scene on `grid`.

    Raises:
        InputError: the raster is missing, cannot be read, has more than one band, or lies on another grid.
    """
    if not isinstance(weights, Path):
        return Uniform(weights)
    if not weights.is_file():
        raise InputError(f"{weights}: no such raster of weights")
    with reading(str(weights)) as dataset:
        weights_grid, bands = Grid.of(dataset), dataset.count
    if bands != 1:
        raise InputError(f"{weights}: a raster of weights has one band, found {bands}")
    problem = grid_problem(weights, weights_grid, grid)
    if problem is not None:
        raise problem
    return RasterWeights(str(weights), weights.stat().st_mtime_ns)
