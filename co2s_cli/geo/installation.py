"""What the installed GDAL and PROJ can do."""

from __future__ import annotations

import pyogrio
import pyproj
import rasterio
from rasterio.warp import transform

from co2s_cli.geo.gdal import FAILURES, first_line

_PLACE = (15.0, 49.652543)
"""Longitude and latitude of 500,000 east, 5,500,000 north in UTM zone 33: by the length of the meridian arc."""
_NEAR = 1e-6
"""Degrees, some 10 cm."""


def versions() -> str:
    """The versions of GDAL inside of rasterio and of pyogrio, which each bring their own."""
    vector = ".".join(map(str, pyogrio.__gdal_version__))
    return f"{rasterio.__gdal_version__} (rasterio), {vector} (pyogrio)"


def drivers() -> frozenset[str]:
    """Short names of the drivers for rasters, and of those for polygons that can write."""
    with rasterio.Env() as gdal:
        rasters = frozenset(gdal.drivers())
    return rasters | {name for name, modes in pyogrio.list_drivers().items() if "w" in modes}


def proj_version() -> str:
    """The version of PROJ inside of pyproj."""
    return str(pyproj.proj_version_str)


def proj_problem() -> str | None:
    """What is wrong with transformations of rasterio or pyproj; None where both are right."""
    try:
        (lon,), (lat,) = transform("EPSG:32633", "EPSG:4326", [500_000], [5_500_000])
        places = {"rasterio": (lon, lat)}
        to_degrees = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
        places["pyproj"] = to_degrees.transform(500_000, 5_500_000)
    except (*FAILURES, pyproj.exceptions.ProjError) as error:
        return f"coordinates cannot be transformed ({first_line(error)})"
    for library, place in places.items():
        if max(abs(a - b) for a, b in zip(place, _PLACE, strict=True)) > _NEAR:
            return f"{library} takes 500,000 5,500,000 in EPSG:32633 to {place[0]:.6f} {place[1]:.6f}, wanted {_PLACE}"
    return None
