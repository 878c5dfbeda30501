"""The pixel grid of a raster: size, transform, CRS, and the size of its pixels on the ground in metres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as warp_points

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import FAILURES
from co2s_cli.limits import MAX_COORDINATE, MIN_PIXEL_SIZE

Numbers = NDArray[np.float64]

SAME_GRID = 0.01
"""Largest shift, in pixels, between two grids that count as the same."""

_RADIUS_M = 6_378_137.0
"""Semi-major axis of the WGS 84 ellipsoid."""
_ECCENTRICITY_2 = 0.00669437999014
"""Squared first eccentricity of the WGS 84 ellipsoid."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixel grid of a raster; rotated and south-up transforms are allowed."""

    height: int
    width: int
    transform: Affine
    """Maps pixel (column, row) to coordinates; identity if the raster has no transform."""
    crs: CRS | None = None
    gcps: tuple[Any, ...] = ()
    """Ground control points of a raster that has no transform; outputs on this grid get them too."""
    gcp_crs: CRS | None = None
    """CRS of the ground control points."""

    @classmethod
    def of(cls, dataset: Any) -> Grid:
        """The grid of an open rasterio dataset.

        Raises:
            InputError: the transform is damaged: not finite, without inverse, or beyond all coordinates on earth.
        """
        _check_transform(dataset.name, dataset.transform, dataset.shape)
        points, points_crs = dataset.gcps
        return cls(
            height=dataset.height,
            width=dataset.width,
            transform=dataset.transform,
            crs=dataset.crs or None,
            gcps=tuple(points or ()),
            gcp_crs=points_crs or None,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def has_transform(self) -> bool:
        """Whether pixels have coordinates: the transform is not the identity."""
        return not self.transform.is_identity

    def at(self, col: Any, row: Any) -> tuple[Any, Any]:
        """Coordinates x, y of pixel positions, scalars or arrays; (0, 0) is the outer corner of the first pixel."""
        a, b, c, d, e, f = tuple(self.transform)[:6]
        return a * col + b * row + c, d * col + e * row + f

    def pixel_of(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Pixel positions (column, row) of coordinates, scalars or arrays: the inverse of `at`."""
        a, b, c, d, e, f = tuple(~self.transform)[:6]
        return a * x + b * y + c, d * x + e * y + f

    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north of the smallest upright box around all pixels."""
        corners = [self.at(col, row) for col in (0, self.width) for row in (0, self.height)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def ground_size(self) -> tuple[float, float] | None:
        """Width and height in metres on the ground of the pixel at the centre; None if the CRS does not determine them.

        Measured on the ellipsoid between neighbouring pixels, so that degrees and the stretched units of Web Mercator
        become metres on the ground.
        """
        sizes = self._sizes(np.array([self.height / 2]))
        return None if sizes is None else (float(sizes[0, 0]), float(sizes[1, 0]))

    def pixel_areas(self) -> Numbers | None:
        """(rows) area in square metres on the ground of the middle pixel of each row; None as in `ground_size`."""
        sizes = self._sizes(np.arange(self.height, dtype=np.float64) + 0.5)
        return None if sizes is None else sizes[0] * sizes[1]

    def _sizes(self, rows: Numbers) -> Numbers | None:
        """(2, n) width and height in metres of pixels centred in the middle column at the positions `rows` (n)."""
        if self.crs is None or not self.has_transform:
            return None
        edges = [self.at(self.width / 2 + dx, rows + dy) for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]
        xs, ys = (np.concatenate([edge[axis] for edge in edges]) for axis in (0, 1))
        try:
            lon, lat = (np.reshape(values, (4, -1)) for values in warp_points(self.crs, "EPSG:4326", xs, ys))
        except FAILURES:
            return None
        sizes = np.stack([_metres(lon[0], lat[0], lon[1], lat[1]), _metres(lon[2], lat[2], lon[3], lat[3])])
        return sizes if np.isfinite(sizes).all() and (sizes > 0).all() else None

    def scaled(self, height: int, width: int) -> Grid:
        """The grid of `height` × `width` pixels that covers the same ground."""
        x_factor, y_factor = self.width / width, self.height / height
        a, b, c, d, e, f = tuple(self.transform)[:6]
        transform = Affine(a * x_factor, b * y_factor, c, d * x_factor, e * y_factor, f)
        return replace(self, height=height, width=width, transform=transform, gcps=(), gcp_crs=None)


def _check_transform(name: str, transform: Affine, shape: tuple[int, int]) -> None:
    """Refuse a transform that is not finite, has no inverse, or lies beyond all coordinates on earth."""
    a, b, c, d, e, f = tuple(transform)[:6]
    height, width = shape
    sides, corners = (np.hypot(a, d), np.hypot(b, e)), (c, f, c + a * width + b * height, f + d * width + e * height)
    on_earth = np.isfinite([a, b, c, d, e, f]).all() and max(map(abs, corners)) <= MAX_COORDINATE
    if not (on_earth and min(sides) >= MIN_PIXEL_SIZE and abs(a * e - b * d) > 1e-9 * sides[0] * sides[1]):
        raise InputError(
            f"{name}: its georeference is damaged, pixels of {sides[0]:.4g} × {sides[1]:.4g} at {c:.8g}, {f:.8g}",
            hint="correct it, for example with gdal_edit.py -a_ullr, or remove it with gdal_edit.py -unsetgt",
        )


def show_bounds(bounds: Iterable[float]) -> str:
    """Bounds as text in the form that `--bounds` takes."""
    return ",".join(f"{value:.8g}" for value in bounds)


def grid_problem(
    path: Path | str, grid: Grid, wanted: Grid, *, of: str = "image", kind: str = "labels"
) -> InputError | None:
    """The error if `grid`, of the raster at `path`, differs from the grid `wanted`; None if both have the same pixels.

    Two words are for the message: `of` names the raster whose grid is wanted, `kind` what the raster at `path` holds.
    """
    if grid.shape != wanted.shape:
        size, wanted_size = (f"{g.width} × {g.height}" for g in (grid, wanted))
        return InputError(
            f"{path}: has {size} pixels, its {of} {wanted_size}", hint=f"{kind} must lie on the grid of their {of}"
        )
    if grid.has_transform and wanted.has_transform:
        shift = _largest_shift(grid, wanted)
        if shift > SAME_GRID:
            return InputError(
                f"{path}: lies {shift:.3g} pixels off its {of}", hint=f"{kind} must lie on the grid of their {of}"
            )
    if grid.crs and wanted.crs and grid.crs != wanted.crs:
        return InputError(f"{path}: is in {grid.crs.to_string()}, its {of} in {wanted.crs.to_string()}")
    return None


def _largest_shift(grid: Grid, wanted: Grid) -> float:
    """Largest distance along x or y between corresponding corners of both grids, in pixels of `wanted`."""
    step = max(abs(value) for value in (wanted.transform.a, wanted.transform.b, wanted.transform.d, wanted.transform.e))
    corners = ((0, 0), (wanted.width, 0), (0, wanted.height))
    shifts = [abs(x - y) for c in corners for x, y in zip(grid.at(*c), wanted.at(*c), strict=True)]
    return float(max(shifts) / step)


def _metres(lon0: Numbers, lat0: Numbers, lon1: Numbers, lat1: Numbers) -> Numbers:
    """Lengths in metres of short steps on the ellipsoid between points in degrees, also across the antimeridian."""
    lat = np.radians((lat0 + lat1) / 2)
    w2 = 1 - _ECCENTRICITY_2 * np.sin(lat) ** 2
    prime_vertical_radius = _RADIUS_M / np.sqrt(w2)
    meridian_radius = prime_vertical_radius * (1 - _ECCENTRICITY_2) / w2
    lon_step = (lon1 - lon0 + 180) % 360 - 180
    east_m = np.radians(lon_step) * np.cos(lat) * prime_vertical_radius
    return np.hypot(east_m, np.radians(lat1 - lat0) * meridian_radius)
