"""Checks of what reads and writes rasters and polygons, and of coordinate transformations."""

from __future__ import annotations

from collections.abc import Iterator

from co2s_cli.geo import installation
from co2s_cli.health.finding import Finding

_WANTED = {"GTiff": "scenes and maps", "COG": "maps", "VRT": "scenes", "PNG": "previews", "GPKG": "polygons"}
"""GDAL driver that commands cannot do without → what it is for."""
_USEFUL = {
    "JP2OpenJPEG": "JPEG 2000 scenes (.jp2)",
    "JPEG": "JPEG scenes",
    "FlatGeobuf": ".fgb polygons",
    "GeoJSON": ".geojson polygons",
    "ESRI Shapefile": ".shp polygons",
}


def gdal() -> Iterator[Finding]:
    """Version and drivers of GDAL, for rasters and for polygons."""
    drivers = installation.drivers()
    for name, use in (_WANTED | _USEFUL).items():
        if name not in drivers:
            advice = "pip install --force-reinstall rasterio pyogrio: their wheels hold it"
            yield Finding("GDAL", "missing" if name in _WANTED else "note", f"no driver {name}, for {use}", advice)
    count = len((_WANTED | _USEFUL).keys() & drivers)
    yield Finding("GDAL", "ok", f"{installation.versions()}; {count} of {len(_WANTED | _USEFUL)} drivers of use")


def proj() -> Iterator[Finding]:
    """Whether coordinates are transformed, by both libraries, as they should be."""
    problem = installation.proj_problem()
    if problem is None:
        yield Finding("PROJ", "ok", f"{installation.proj_version()}; UTM to degrees is right")
        return
    yield Finding("PROJ", "missing", problem, "unset PROJ_LIB and PROJ_DATA, which name the files of another PROJ")
