"""Decimated rasters for pictures: north up, all on one grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from co2s_cli.classes import IGNORE
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import first_line, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.reader import Patch
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.undeclared import land_values


def picture_shape(grid: Grid, max_size: int) -> tuple[int, int]:
    """Rows and columns of a grid decimated to at most `max_size` pixels on its longer side."""
    factor = max(1.0, max(grid.shape) / max_size)
    return max(1, round(grid.height / factor)), max(1, round(grid.width / factor))


def north_up(grid: Grid) -> Grid:
    """The grid of the same pixels with rows counted from the north."""
    if grid.transform.e <= 0:
        return grid
    flipped: Any = grid.transform @ Affine(1, 0, 0, 0, -1, grid.height)
    return Grid(grid.height, grid.width, flipped, grid.crs)


def read_class_ids(source: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(`shape`) class ids of a class raster, decimated from its overviews, north up; `IGNORE` where it has no class."""
    return np.asarray(_read(source, shape, Resampling.nearest).filled(IGNORE), np.uint8)


def read_fractions(source: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(`shape`) means of a raster of amounts from 0 to 1, north up; NaN where no pixel has a value."""
    with reading(source) as dataset:
        scale = float(dataset.scales[0])
    return np.asarray((_read(source, shape, Resampling.average).astype(np.float32) * scale).filled(np.nan), np.float32)


def read_photo(scene: Scene, max_size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A scene as a picture (h, w, 3) of red, green, blue and its validity (h, w), north up."""
    patch = scene.on_original().overview(max_size)
    image = np.round(255 * stretched(scene, patch)).astype(np.uint8)
    return (image[::-1], patch.valid[::-1]) if scene.original.transform.e > 0 else (image, patch.valid)


def stretched(scene: Scene, patch: Patch) -> NDArray[np.float64]:
    """A picture (h, w, 3) in [0, 1] of a patch of a scene, white where not valid.

    Each band is stretched between its 2nd and 98th percentile, without a border. Bands are red, green and blue if the
    scene has these names, else the first three, else the first one three times.
    """
    band_of_name = {name.lower(): position for position, name in enumerate(scene.names)}
    colors = [band_of_name[name] for name in ("red", "green", "blue") if name in band_of_name]
    pixels, valid, land = patch.pixels, patch.valid, land_values(patch)
    chosen = colors if len(colors) == 3 else [0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]
    image = np.ones((*valid.shape, 3))
    for channel, band in enumerate(chosen):
        low, high = np.percentile(land[band], (2, 98)) if valid.any() else (0, 1)
        stretch = (pixels[band].astype(np.float64) - low) / (high - low) if high > low else np.full(valid.shape, 0.5)
        image[..., channel] = np.where(valid, np.clip(stretch, 0, 1), 1)
    return image


def _read(source: str, shape: tuple[int, int], resampling: Resampling) -> Any:
    """Band 1 decimated to `shape` (rows, columns), north up, as a masked array."""
    with reading(source) as dataset:
        try:
            band = dataset.read(1, out_shape=shape, resampling=resampling, masked=True)
        except RasterioError as error:
            raise InputError(f"{source}: cannot be read ({first_line(error)})") from error
        return band[::-1] if dataset.transform.e > 0 else band
