"""Checks of GDAL and its drivers for rasters and polygons, and of PROJ's coordinate transformations."""

from __future__ import annotations

from collections.abc import Iterator

from co2s_cli.geo import installation
from co2s_cli.health.finding import Finding

_REQUIRED = {"GTiff": "scenes and maps", "COG": "maps", "VRT": "scenes", "PNG": "previews", "GPKG": "polygons"}
"""GDAL drivers that commands cannot work without → what each is for."""
_OPTIONAL = {
    "JP2OpenJPEG": "JPEG 2000 scenes (.jp2)",
    "JPEG": "JPEG scenes",
    "FlatGeobuf": ".fgb polygons",
    "GeoJSON": ".geojson polygons",
    "ESRI Shapefile": ".shp polygons",
}
"""Other GDAL drivers that users often need → what each is for."""


def gdal() -> Iterator[Finding]:
    """Version and drivers of GDAL, for rasters and for polygons."""
    drivers = installation.drivers()
    for name, use in (_REQUIRED | _OPTIONAL).items():
        if name not in drivers:
            advice = "pip install --force-reinstall rasterio pyogrio: their wheels contain it"
            yield Finding("GDAL", "missing" if name in _REQUIRED else "note", f"no driver {name}, for {use}", advice)
    count = len((_REQUIRED | _OPTIONAL).keys() & drivers)
    yield Finding("GDAL", "ok", f"{installation.versions()}; {count} of {len(_REQUIRED | _OPTIONAL)} useful drivers")


def proj() -> Iterator[Finding]:
    """Whether rasterio and pyogrio transform coordinates correctly."""
    problem = installation.proj_problem()
    if problem is None:
        yield Finding("PROJ", "ok", f"{installation.proj_version()}; UTM to degrees is right")
        return
    yield Finding("PROJ", "missing", problem, "unset PROJ_LIB and PROJ_DATA: they point to the files of another PROJ")
