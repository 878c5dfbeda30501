"""Turn polygons of pixel corners into features: geometry in map coordinates, class, area, perimeter, confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Proj, Transformer
from pyproj.exceptions import CRSError, ProjError

from co2s_cli.errors import ConfigError, InputError, shown
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.assemble import Polygons
from co2s_cli.geo.polygons.chains import Index, spans
from co2s_cli.geo.polygons.rings import Rings

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroundTransform:
    """How corners of pixels become map coordinates and metres; plain data, so that it can be pickled."""

    transform: tuple[float, float, float, float, float, float]
    """a b c d e f of x = a·col + b·row + c, y = d·col + e·row + f."""
    crs: str | None
    """CRS of the raster as WKT."""
    unit: float | None
    """Metres (projected CRS) or radians (geographic CRS) in one unit of the CRS; None without CRS."""
    ellipsoid: tuple[float, float] | None
    """Semi-major and semi-minor axis in metres of a geographic CRS; None for others."""
    target: str | None
    """CRS of the written geometries as WKT where it differs from the raster's; None where it is the same."""

    @classmethod
    def of(cls, grid: Grid, target: CRS | None) -> GroundTransform:
        """The transform of a grid; `target` is the CRS wanted for the geometries, None for that of the grid."""
        transform = tuple(float(value) for value in tuple(grid.transform)[:6])
        if grid.crs is None:
            return cls(transform, None, None, None, None)  # type: ignore[arg-type]
        crs = CRS.from_wkt(grid.crs.to_wkt())
        unit = float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0
        axes = None
        if crs.is_geographic and crs.ellipsoid is not None:
            axes = (float(crs.ellipsoid.semi_major_metre), float(crs.ellipsoid.semi_minor_metre))
        target_wkt = None if target is None or target.equals(crs, ignore_axis_order=True) else target.to_wkt()
        if target_wkt is not None:
            transformer(crs.to_wkt(), target_wkt)  # raises where the two CRS cannot be joined
        return cls(transform, crs.to_wkt(), unit, axes, target_wkt)  # type: ignore[arg-type]

    @property
    def written_crs(self) -> str | None:
        """CRS of the written geometries as WKT; None without CRS."""
        return self.target or self.crs

    @property
    def pixel_area(self) -> float:
        """Signed area of a pixel in square units of the CRS: negative where y falls as rows grow, the usual case."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d

    def coordinates(self, corners: NDArray[Any]) -> Floats:
        """(points, 2) x, y in the raster's CRS of `corners` (points, 2) x, y in pixels."""
        a, b, c, d, e, f = self.transform
        col, row = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
        return np.stack([a * col + b * row + c, d * col + e * row + f], axis=1)

    def reprojected(self, coordinates: Floats) -> Floats:
        """(points, 2) `coordinates` in the raster's CRS, brought to the CRS that is written."""
        if self.target is None:
            return coordinates
        reprojected = np.stack(transformer(self.crs, self.target).transform(*coordinates.T), axis=1)
        if not np.isfinite(reprojected).all():
            raise InputError("some places of the class raster have no coordinates in the CRS that is to be written")
        return reprojected


@dataclass(frozen=True, slots=True)
class Features:
    """Polygons with their attributes; every array has one entry a polygon, NaN where an attribute is not known."""

    geometry: NDArray[np.object_]
    """WKB; shells run counter-clockwise, holes clockwise."""
    value: NDArray[np.int32]
    """Class id."""
    area_m2: Floats
    perimeter_m: Floats
    confidence_mean: Floats
    confidence_p10: Floats
    """10th percentile of the confidences of the polygon's pixels."""
    bottom: Index
    """Last row of the polygon, which decides the order of features (see `stream.features`)."""
    first: Index
    """First pixel in raster order (see `RegionInfo.first`), which decides among polygons with the same last row."""

    def __len__(self) -> int:
        return len(self.value)

    @classmethod
    def none(cls) -> Features:
        """No features."""
        floats, positions = np.zeros(0), np.zeros(0, np.int64)
        return cls(np.zeros(0, object), np.zeros(0, np.int32), floats, floats, floats, floats, positions, positions)


def describe(polygons: Polygons, ground: GroundTransform, confidence_scale: float) -> Features:
    """Features of complete polygons; `confidence_scale` is the factor from counted bytes to confidences."""
    count, shapes = len(polygons.info.value), polygons.rings
    coordinates = ground.coordinates(shapes.points)
    area, perimeter = _measures(shapes, coordinates, ground, count)
    return Features(
        shapely.to_wkb(_geometry(shapes, ground.reprojected(coordinates), backwards=ground.pixel_area < 0)),
        polygons.info.value.astype(np.int32),
        area,
        perimeter,
        polygons.counts.mean(count) * confidence_scale,
        polygons.counts.quantile(count, 0.1) * confidence_scale,
        polygons.info.bottom,
        polygons.info.first,
    )


def _geometry(shapes: Rings, coordinates: Floats, *, backwards: bool) -> NDArray[np.object_]:
    """(polygons) shapely polygons; `backwards` reverses the points of every ring."""
    sizes = np.diff(shapes.starts)
    if backwards:  # rings run clockwise in pixels; where y falls as rows grow that is clockwise in coordinates too
        coordinates = coordinates[
            2 * np.repeat(shapes.starts[:-1], sizes) + np.repeat(sizes, sizes) - 1 - spans(shapes.starts[:-1], sizes)
        ]
    lines = shapely.linearrings(coordinates, indices=np.repeat(np.arange(len(sizes)), sizes))
    return np.asarray(shapely.polygons(lines, indices=shapes.region))


def _measures(shapes: Rings, coordinates: Floats, ground: GroundTransform, count: int) -> tuple[Floats, Floats]:
    """Area in square metres and perimeter in metres of each polygon; NaN where the raster has no CRS."""
    if ground.unit is None or not len(shapes.area):
        return np.full(count, np.nan), np.full(count, np.nan)
    if ground.ellipsoid is not None:
        areas, lengths = ellipsoid_measures(ground.ellipsoid, coordinates * ground.unit, shapes.starts)
        areas *= np.sign(ground.pixel_area)
    else:
        areas = np.asarray(shapes.area * (abs(ground.pixel_area) / 2 * ground.unit**2), np.float64)
        steps = np.hypot(*np.diff(coordinates, axis=0).T)
        lengths = _ring_sums(steps, shapes.starts) * ground.unit
    return _sums(shapes.region, areas, count), _sums(shapes.region, lengths, count)


def ellipsoid_measures(axes: tuple[float, float], lonlat: Floats, starts: Index) -> tuple[Floats, Floats]:
    """Area in square metres and length in metres of closed rings on an ellipsoid; clockwise rings have negative areas.

    Edges are straight in longitude and latitude, as those of pixels are. In the cylindrical equal-area projection the
    area between an edge and the equator is the edge's width · its mean y, which Simpson's rule approximates. Lengths
    are those of geodesics.

    Args:
        axes: Semi-major and semi-minor axis of the ellipsoid in metres.
        lonlat: (points, 2) longitude, latitude in radians, ring after ring.
        starts: (rings + 1) index of the first point of each ring.
    """
    major, minor = axes
    lon, lat = lonlat.T
    equal_area = Proj(proj="cea", a=major, b=minor, over=True)
    x, y = equal_area(lon, lat, radians=True)
    _, middle_y = equal_area(lon[:-1], (lat[:-1] + lat[1:]) / 2, radians=True)
    base_y = np.repeat(y[starts[:-1]], np.diff(starts))[:-1]  # keeps the digits of small rings
    mean_y = (y[:-1] + 4 * middle_y + y[1:]) / 6
    areas = -_ring_sums(np.diff(x) * (mean_y - base_y), starts)
    lengths = Geod(a=major, b=minor).inv(lon[:-1], lat[:-1], lon[1:], lat[1:], radians=True)[2]
    return areas, _ring_sums(lengths, starts)


def _ring_sums(edges: Floats, starts: Index) -> Floats:
    """(rings) sums over the edges of each ring; the entries of `edges` (points - 1) between two rings are left out."""
    closed = np.append(edges, 0.0)
    closed[starts[1:] - 1] = 0
    return np.asarray(np.add.reduceat(closed, starts[:-1]))


def parsed_crs(text: str) -> CRS:
    """The coordinate system that `text` names.

    Raises:
        ConfigError: `text` names no coordinate system.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise ConfigError(f"{shown(text)}: no such coordinate system", hint="name it as EPSG:32633, say") from error


def transformer(source: str | None, target: str) -> Transformer:
    """The transformation of x, y from the CRS `source` (WKT) to `target` (WKT).

    Raises:
        InputError: no transformation joins the two, as where `source` is a local engineering CRS.
    """
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise InputError(
            "the class raster's CRS is not tied to the earth, so that its polygons cannot be written in another CRS",
            hint="write .gpkg, .fgb or .parquet without --dst-crs, or set its true CRS with gdal_edit.py -a_srs",
        ) from error


def _sums(groups: Index, values: Floats, count: int) -> Floats:
    """(count) sum of the values of each group."""
    return np.asarray(np.bincount(groups, values, count), np.float64)
