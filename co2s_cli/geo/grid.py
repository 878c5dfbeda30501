"""Where pixels lie: size, transform and CRS, and how many metres a pixel measures on the ground."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.warp import transform as warp_points

_RADIUS_M = 6_378_137.0
_ECCENTRICITY_2 = 0.00669437999014
"""WGS 84."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixel grid of a raster; rotated and south-up transforms are as good as any."""

    height: int
    width: int
    transform: Affine
    """Pixel (column, row) to coordinates; identity where the raster has none."""
    crs: CRS | None = None
    gcps: tuple[Any, ...] = ()
    """Ground control points of a raster that has no transform; they are handed on to what is written."""
    gcp_crs: CRS | None = None

    @classmethod
    def of(cls, dataset: Any) -> Grid:
        """The grid of an open rasterio dataset."""
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
        """Whether pixels have coordinates at all."""
        return not self.transform.is_identity

    def at(self, col: float, row: float) -> tuple[float, float]:
        """Coordinates of a place in pixels; (0, 0) is the outer corner of the first one."""
        a, b, c, d, e, f = tuple(self.transform)[:6]
        return a * col + b * row + c, d * col + e * row + f

    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north of the smallest upright box around all pixels."""
        corners = [self.at(col, row) for col in (0, self.width) for row in (0, self.height)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def ground_size(self) -> tuple[float, float] | None:
        """Metres on the ground of a pixel's width and height at the centre; None where the CRS does not tell.

        Measured on the ellipsoid between neighbouring pixels, so that degrees and the stretched metres of Web
        Mercator come out as metres.
        """
        if self.crs is None or not self.has_transform:
            return None
        col, row = self.width / 2, self.height / 2
        corners = [self.at(col + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (0, 1))]
        try:
            lon, lat = warp_points(self.crs, "EPSG:4326", [x for x, _ in corners], [y for _, y in corners])
        except RasterioError:
            return None
        size = _metres(lon[0], lat[0], lon[1], lat[1]), _metres(lon[0], lat[0], lon[2], lat[2])
        return size if all(math.isfinite(side) and side > 0 for side in size) else None

    def scaled(self, height: int, width: int) -> Grid:
        """The same ground cut into `height` × `width` pixels."""
        wide, high = self.width / width, self.height / height
        a, b, c, d, e, f = tuple(self.transform)[:6]
        transform = Affine(a * wide, b * high, c, d * wide, e * high, f)
        return replace(self, height=height, width=width, transform=transform, gcps=(), gcp_crs=None)


def show_bounds(bounds: Iterable[float]) -> str:
    """Bounds as `--bounds` takes them."""
    return ",".join(f"{value:.8g}" for value in bounds)


def _metres(lon0: float, lat0: float, lon1: float, lat1: float) -> float:
    """Length of a short step on the ellipsoid, also over the antimeridian."""
    lat = math.radians((lat0 + lat1) / 2)
    bulge = 1 - _ECCENTRICITY_2 * math.sin(lat) ** 2
    across = _RADIUS_M / math.sqrt(bulge)
    along = across * (1 - _ECCENTRICITY_2) / bulge
    step = (lon1 - lon0 + 180) % 360 - 180
    return math.hypot(math.radians(step) * math.cos(lat) * across, math.radians(lat1 - lat0) * along)
