"""Small rasters for tests, written by rasterio alone."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_500_000)}


def write_raster(path: Path | str, array: np.ndarray, *, names=(), colors=(), mask=None, **profile) -> Path | str:
    """A GeoTIFF of `array` (bands, h, w) or (h, w); in UTM unless `profile` says otherwise."""
    bands = array[None] if array.ndim == 2 else array
    count, height, width = bands.shape
    place = {} if "gcps" in profile or profile.pop("bare", False) else UTM
    options = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": bands.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{**options, **place, **profile}) as dataset:
            dataset.write(bands)
            for band, name in enumerate(names, 1):
                dataset.set_band_description(band, name)
            if colors:
                dataset.colorinterp = colors
            if mask is not None:
                dataset.write_mask(mask)
    return path


def noise(shape: tuple[int, ...], dtype: str = "uint8", *, low: int = 1, high: int = 200, seed: int = 0) -> np.ndarray:
    """Random samples."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
