"""Polygons of any vector file as one area in the CRS of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from rasterio.warp import transform_bounds

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import FAILURES, first_line
from co2s_cli.geo.grid import Grid, show_bounds

if TYPE_CHECKING:
    import geopandas

_PIECES = 200
"""Into so many pieces an edge that crosses the scene is cut before it is reprojected: straight lines bend."""


def read_area(file: Path, grid: Grid) -> Any:
    """The union of all polygons of a vector file, in the grid's CRS; in its own where the grid has none."""
    shapes = _read_polygons(file)
    if grid.crs is None:
        return polygons_of(shapes.make_valid().union_all())
    if shapes.crs is None:
        raise InputError(f"{file}: does not say its CRS", hint="write it with a CRS, for example as GeoPackage")
    try:
        near = _cut(shapes.make_valid(), grid, file)
        return polygons_of(near.to_crs(grid.crs.to_wkt()).make_valid().union_all())
    except (*FAILURES, RuntimeError) as error:  # pyproj's errors are RuntimeErrors
        raise InputError(f"{file}: cannot be brought to the scene's CRS ({first_line(error)})") from error


def polygons_of(shape: Any) -> Any:
    """The polygons of a geometry, without the points and lines that repairs and cuts leave."""
    parts = shapely.get_parts(shape, return_index=False)
    while any(part.geom_type.startswith(("Multi", "GeometryC")) for part in parts):
        parts = shapely.get_parts(parts)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and not part.is_empty])


def _read_polygons(file: Path) -> geopandas.GeoSeries:
    import geopandas  # slow to import, and only wanted where an area is given
    import pyogrio

    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
        if len(layers) > 1:
            raise InputError(
                f"{file}: has {len(layers)} layers ({', '.join(layers)}), one is wanted",
                hint=f"ogr2ogr area.gpkg {file} LAYER",
            )
        frame = geopandas.read_file(file)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read as polygons ({first_line(error)})") from error
    found = frame.geometry if isinstance(frame, geopandas.GeoDataFrame) else geopandas.GeoSeries()
    polygons = found[found.geom_type.isin(("Polygon", "MultiPolygon"))]
    if polygons.empty:
        kinds = ", ".join(sorted(set(found.geom_type.dropna()))) or "no geometry"
        raise InputError(f"{file}: polygons wanted, found {kinds}")
    return polygons


def _cut(shapes: geopandas.GeoSeries, grid: Grid, file: Path) -> geopandas.GeoSeries:
    """The part of the area around the grid, in pieces short enough to follow the grid's CRS."""
    west, south, east, north = transform_bounds(grid.crs, shapes.crs.to_wkt(), *grid.bounds())
    if west > east:  # over the antimeridian; nothing is cut off, because the other side has other numbers
        return shapes.segmentize((east + 360 - west) / _PIECES)
    margin = max(east - west, north - south) / 10
    near = shapes.clip_by_rect(west - margin, south - margin, east + margin, north + margin)
    near = near[~near.is_empty]
    if near.empty:
        raise InputError(
            f"{file}: misses the scene, which covers {show_bounds((west, south, east, north))} in the area's CRS; "
            f"the area covers {show_bounds(shapes.total_bounds)}",
            hint="is the area for another scene, or its CRS wrong?",
        )
    return near.segmentize(10 * margin / _PIECES)
