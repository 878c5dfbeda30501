"""Read a vector file of any format; every failure becomes an `InputError` that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shapely.errors import ShapelyError

from co2s_cli.errors import InputError
from co2s_cli.files import check_companions, check_readable
from co2s_cli.geo.gdal import first_line
from co2s_cli.limits import MAX_COORDINATE

VECTORS = frozenset({".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml"})
"""Suffixes of vector files; every other label file is a raster."""

# pyogrio and pyproj raise RuntimeErrors, pyarrow raises ValueErrors; metadata of an unexpected form raises the others
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ShapelyError)


def is_vector(path: Path) -> bool:
    """Whether a file is a vector file, by its suffix."""
    return path.suffix.lower() in VECTORS


def read_polygons(path: Path) -> Any:
    """The polygons in a vector file, as a GeoDataFrame.

    Raises:
        InputError: the file is missing, cannot be read, or holds no polygon.
    """
    frame = read_features(path, "polygons")
    kinds = sorted({str(kind) for kind in frame.geom_type.dropna()})
    polygons = frame[frame.geom_type.isin(("Polygon", "MultiPolygon")) & ~frame.is_empty]
    if polygons.empty:
        raise InputError(
            f"{path}: holds no polygon" + (f" (found: {', '.join(kinds)})" if kinds else ""),
            hint="for the points of a sample use `co2s evaluate MAP POINTS --areas`" if "Point" in kinds else None,
        )
    return polygons


def read_features(path: Path, wanted: str) -> Any:
    """All features in a vector file, as a GeoDataFrame; messages call the features `wanted`, such as "polygons".

    Raises:
        InputError: the file is missing, cannot be read, has several layers or no geometry, or has coordinates beyond
            `MAX_COORDINATE`.
    """
    import geopandas  # slow to import, and needed for vector files only

    check_readable(path)
    check_companions(path)
    try:
        frame = _table(path)
        if not isinstance(frame, geopandas.GeoDataFrame):
            raise InputError(f"{path}: holds a table without geometry, {wanted} are wanted")
        if not frame.empty and (np.abs(frame.total_bounds) > MAX_COORDINATE).any():
            raise InputError(f"{path}: has coordinates beyond ±{MAX_COORDINATE:g}")
    except _FAILURES as error:
        raise InputError(f"{path}: cannot be read as {wanted} ({first_line(error)})") from error
    return frame


def to_crs(features: Any, wkt: str, path: Path) -> Any:
    """Features of the file `path` (a GeoSeries or a GeoDataFrame), reprojected to the CRS `wkt`.

    Raises:
        InputError: the features have no CRS, or some of their places have no coordinates in `wkt`.
    """
    if features.crs is None:
        raise no_crs(path)
    try:
        reprojected = features.to_crs(wkt)
    except _FAILURES as error:
        raise InputError(f"{path}: cannot be brought to the scene's CRS ({first_line(error)})") from error
    if not np.isfinite(reprojected.total_bounds).all():
        raise InputError(f"{path}: has places without coordinates in the scene's CRS")
    return reprojected


def no_crs(path: Path) -> InputError:
    """The error for a vector file without a CRS."""
    return InputError(f"{path}: has no CRS", hint="write it with a CRS, for example as GeoPackage")


def _table(path: Path) -> Any:
    """The features of the only layer that has geometry; None if there is none."""
    import geopandas
    import pyogrio

    if path.suffix.lower() == ".parquet":  # GDAL's wheels cannot read it
        return geopandas.read_parquet(path)
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) > 1:
        raise InputError(
            f"{path}: has {len(layers)} layers ({', '.join(layers)}), one is wanted",
            hint=f"ogr2ogr area.gpkg {path} LAYER",
        )
    return geopandas.read_file(path, layer=layers[0]) if layers else None
