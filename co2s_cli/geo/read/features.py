"""Read a vector file of any format; every failure becomes an `InputError` that names the file."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shapely.errors import ShapelyError

from co2s_cli.errors import InputError
from co2s_cli.files import check_companions, check_readable
from co2s_cli.geo.gdal import first_line
from co2s_cli.limits import MAX_COORDINATE

log = logging.getLogger(__name__)

VECTORS = frozenset({".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml"})
"""Suffixes of vector files; every other label file is a raster."""

POLYGONS, POINTS = ("Polygon", "MultiPolygon"), ("Point", "MultiPoint")
"""Types of geometries, as geopandas names them."""

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
    return _of_types(path, ("polygon",), POLYGONS)


def read_shapes(path: Path) -> Any:
    """The polygons and points in a vector file of labels, as a GeoDataFrame.

    Raises:
        InputError: the file is missing, cannot be read, or holds neither.
    """
    return _of_types(path, ("polygon", "point"), (*POLYGONS, *POINTS))


def shape_noun(frame: Any) -> str:
    """What polygons and points are called together: "polygons", "points" or "polygons and points"."""
    is_point = frame.geom_type.isin(POINTS)
    return "points" if is_point.all() else "polygons and points" if is_point.any() else "polygons"


def _of_types(path: Path, names: Sequence[str], types: Sequence[str]) -> Any:
    """The features of some types that are not empty; tells of others."""
    wanted = " or ".join(names)
    frame = read_features(path, " or ".join(f"{name}s" for name in names))
    missing, fits = frame.geometry.isna() | frame.is_empty, frame.geom_type.isin(types)
    fitting, others = frame[fits & ~missing], frame.geom_type[~fits & ~missing]
    kinds = ", ".join(sorted({str(kind) for kind in others}))
    if fitting.empty:
        lacking = f"{missing.sum()} of {len(frame)} features have no geometry" if missing.any() else ""
        found = "; ".join(text for text in (kinds and f"found: {kinds}", lacking) if text)
        raise InputError(f"{path}: holds no {wanted}" + (f" ({found})" if found else ""))
    if kinds:
        _warn_once(f"{path}: {len(others)} of {len(frame)} features are no {wanted} and are left out ({kinds})")
    if missing.any():
        _warn_once(f"{path}: {missing.sum()} of {len(frame)} features have no geometry and are left out")
    return fitting


@functools.cache
def _warn_once(message: str) -> None:
    """Warn once, however often a file is read."""
    log.warning("%s", message)


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
