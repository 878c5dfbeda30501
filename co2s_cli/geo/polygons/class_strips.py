"""A class raster on its way: plain strips on disk, written and read once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import first_line, open_dataset, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write.raster import BLOCK, class_layer, raster

_STRIP_ROWS = 32


class Strips:
    """Takes rows from top to bottom, and knows which classes it has seen."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._seen = np.zeros(256, bool)

    @property
    def values(self) -> list[int]:
        """The classes that occur so far."""
        return [int(value) for value in np.flatnonzero(self._seen[:IGNORE])]

    def write(self, row: int, classes: NDArray[np.uint8]) -> None:
        """Write (rows, columns) from `row` on."""
        self._seen |= np.bincount(classes.ravel(), minlength=256) > 0
        self._dataset.write(classes, 1, window=RasterioWindow(0, row, classes.shape[1], classes.shape[0]))


@contextlib.contextmanager
def strips(path: Path, grid: Grid) -> Iterator[Strips]:
    """A file of strips.

    Raises:
        OutputError: no room, or no permission.
    """
    try:
        with open_dataset(
            str(path), "w", driver="GTiff", height=grid.height, width=grid.width, count=1, dtype="uint8", nodata=IGNORE,
            crs=grid.crs, transform=grid.transform, blockysize=_STRIP_ROWS, compress="deflate", zlevel=1,
            bigtiff="if_safer",
        ) as dataset:  # fmt: skip
            yield Strips(dataset)
    except RasterioError as error:
        raise OutputError(f"{path}: could not be written ({first_line(error)})") from error


def copy_to_raster(path: Path, target: Path, classes: ClassMap) -> None:
    """Write the class raster `target`, with names and colours, from a file of strips."""
    with reading(str(path)) as dataset:
        grid = Grid.of(dataset)
        with raster(target, grid=grid, layer=class_layer(classes), tags={}) as writer:
            for row in range(0, grid.height, BLOCK):
                window = RasterioWindow(0, row, grid.width, min(BLOCK, grid.height - row))
                writer.write(row, dataset.read(1, window=window))
