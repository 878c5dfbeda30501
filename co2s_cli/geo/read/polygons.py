"""Read polygons from a vector file of any kind: whatever is wrong with the file is one `InputError` that names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely.errors import ShapelyError

from co2s_cli.errors import InputError
from co2s_cli.files import check_readable
from co2s_cli.geo.gdal import first_line
from co2s_cli.limits import MAX_COORDINATE

if TYPE_CHECKING:
    import geopandas

VECTORS = frozenset({".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml"})
"""Suffixes of vector files; every other label file is a raster."""

# pyogrio's and pyproj's errors are RuntimeErrors, pyarrow's are ValueErrors; metadata of another shape raise the others
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ShapelyError)


def is_vector(path: Path) -> bool:
    """Whether a file holds polygons, by its suffix."""
    return path.suffix.lower() in VECTORS


def read_polygons(path: Path) -> geopandas.GeoDataFrame:
    """The polygons of a vector file, valid, with their attributes.

    Raises:
        InputError: unreadable, of several layers, without polygons, or with coordinates out of this world.
    """
    import geopandas  # slow to import, and only wanted where polygons are given

    check_readable(path)
    try:
        frame = _table(path)
        if not isinstance(frame, geopandas.GeoDataFrame) or frame.empty:
            raise InputError(f"{path}: polygons wanted, found no geometry")
        polygons = frame[frame.geom_type.isin(("Polygon", "MultiPolygon")) & ~frame.is_empty]
        if polygons.empty:
            kinds = ", ".join(sorted(set(frame.geom_type.dropna()))) or "no geometry"
            raise InputError(f"{path}: polygons wanted, found {kinds}")
        if not (np.abs(polygons.total_bounds) <= MAX_COORDINATE).all():
            raise InputError(f"{path}: has coordinates beyond ±{MAX_COORDINATE:g}")
        return polygons.set_geometry(polygons.geometry.make_valid())
    except _FAILURES as error:
        raise InputError(f"{path}: cannot be read as polygons ({first_line(error)})") from error


def to_crs(polygons: Any, wkt: str, path: Path) -> Any:
    """Polygons of `path` (a series or a table) in the CRS `wkt`.

    Raises:
        InputError: they have no CRS, or no coordinates in that one.
    """
    if polygons.crs is None:
        raise no_crs(path)
    try:
        moved = polygons.to_crs(wkt)
    except _FAILURES as error:
        raise InputError(f"{path}: cannot be brought to the scene's CRS ({first_line(error)})") from error
    if not np.isfinite(moved.total_bounds).all():
        raise InputError(f"{path}: has places that the scene's CRS has no coordinates for")
    return moved


def no_crs(path: Path) -> InputError:
    """What is wrong with a file of polygons that could lie anywhere."""
    return InputError(f"{path}: does not say its CRS", hint="write it with a CRS, for example as GeoPackage")


def _table(path: Path) -> Any:
    """The features of the one layer that has geometry."""
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
