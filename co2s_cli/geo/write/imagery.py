"""Imagery out: strips of rows in, a tiled GeoTIFF out, whole under its final name or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError, OutputError
from co2s_cli.files import appearing
from co2s_cli.geo.gdal import first_line, open_dataset, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.checks import check_whole

TILE = 512
"""Side of the tiles of everything that is written; a scene smaller than that is one tile."""


class ImageWriter:
    """Takes the parts of an image in any order; whole rows of tiles from top to bottom are fastest."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, row: int, col: int, pixels: NDArray[Any]) -> None:
        """Write `pixels` (bands, h, w) with their upper left corner at (row, col)."""
        self._dataset.write(pixels, window=RasterioWindow(col, row, pixels.shape[2], pixels.shape[1]))


def north_up(height: int, width: int, *, epsg: int, west: float, north: float, resolution: float) -> Grid:
    """A grid of square pixels of `resolution` metres, its upper left corner at (west, north)."""
    transform = Affine(resolution, 0, west, 0, -resolution, north)
    return Grid(height, width, transform, CRS.from_epsg(epsg))


@contextlib.contextmanager
def image(
    path: Path, *, grid: Grid, bands: tuple[str, ...], dtype: str, nodata: float, tags: Mapping[str, str]
) -> Iterator[ImageWriter]:
    """Write imagery with the named bands; it appears when the block ends, and after an exception nothing is left.

    Raises:
        OutputError: no room, no permission.
    """
    with appearing(path) as temporary:
        try:
            with _dataset(temporary, grid, bands, dtype, nodata) as dataset:
                dataset.update_tags(**tags)
                yield ImageWriter(dataset)
            with reading(str(temporary)) as dataset:  # a full disk is not told when blocks are flushed on closing
                check_whole(str(temporary), dataset)
        except (RasterioError, InputError) as error:
            raise OutputError(f"{path}: could not be written whole ({first_line(error)})") from error


def _dataset(path: Path, grid: Grid, bands: tuple[str, ...], dtype: str, nodata: float) -> Any:
    # without photometric and alpha GDAL takes the fourth of four byte bands for a mask
    meaning = {"photometric": "rgb", "alpha": "no"} if bands[:3] == ("red", "green", "blue") else {}
    # the lowest level: the noise of a sensor packs no better with more effort
    dataset = open_dataset(
        str(path), "w", driver="GTiff", height=grid.height, width=grid.width, count=len(bands), dtype=np.dtype(dtype),
        nodata=nodata, crs=grid.crs, transform=grid.transform, tiled=True, blockxsize=_block(grid.width),
        blockysize=_block(grid.height), compress="deflate", zlevel=1, predictor=2, interleave="pixel",
        bigtiff="if_safer", num_threads="all_cpus", **meaning,
    )  # fmt: skip
    dataset.colorinterp = [
        ColorInterp[band] if band in ColorInterp.__members__ else ColorInterp.undefined for band in bands
    ]
    dataset.descriptions = bands
    return dataset


def _block(length: int) -> int:
    """Side of a tile: a multiple of 16, as TIFF wants it, that a small image does not exceed by much."""
    return min(TILE, -(-length // 16) * 16)
