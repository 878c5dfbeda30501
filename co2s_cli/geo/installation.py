"""Versions, drivers and a correctness check of the installed GDAL and PROJ."""

from __future__ import annotations

import pyogrio
import pyproj
import rasterio
from rasterio.warp import transform

from co2s_cli.geo.gdal import FAILURES, first_line

_EXPECTED_LONLAT = (15.0, 49.652543)
"""Longitude and latitude of 500,000 east, 5,500,000 north in UTM zone 33, from the length of the meridian arc."""
_TOLERANCE_DEGREES = 1e-6
"""Largest error of a correct transformation in degrees, some 10 cm."""


def versions() -> str:
    """The versions of GDAL that rasterio and pyogrio each bring with them."""
    vector = ".".join(map(str, pyogrio.__gdal_version__))
    return f"{rasterio.__gdal_version__} (rasterio), {vector} (pyogrio)"


def drivers() -> frozenset[str]:
    """Short names of GDAL's raster drivers, and of its vector drivers that can write."""
    with rasterio.Env() as gdal:
        rasters = frozenset(gdal.drivers())
    return rasters | {name for name, modes in pyogrio.list_drivers().items() if "w" in modes}


def proj_version() -> str:
    """The version of PROJ that pyproj brings with it."""
    return str(pyproj.proj_version_str)


def proj_problem() -> str | None:
    """What is wrong with coordinate transformations of rasterio or pyproj; None if both are right."""
    try:
        (lon,), (lat,) = transform("EPSG:32633", "EPSG:4326", [500_000], [5_500_000])
        lonlat_by_library = {"rasterio": (lon, lat)}
        to_degrees = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
        lonlat_by_library["pyproj"] = to_degrees.transform(500_000, 5_500_000)
    except (*FAILURES, pyproj.exceptions.ProjError) as error:
        return f"coordinates cannot be transformed ({first_line(error)})"
    for library, (lon, lat) in lonlat_by_library.items():
        if max(abs(a - b) for a, b in zip((lon, lat), _EXPECTED_LONLAT, strict=True)) > _TOLERANCE_DEGREES:
            wanted = _EXPECTED_LONLAT
            return f"{library} transforms 500,000 5,500,000 in EPSG:32633 to {lon:.6f} {lat:.6f}, wanted {wanted}"
    return None
