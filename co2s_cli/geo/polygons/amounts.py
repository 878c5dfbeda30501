"""Areas and lengths on the ground in the pixels of a raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.features import Ground
from co2s_cli.geo.polygons.sieve import Limits

_LARGE_PIXELS = 2**14
"""Regions of at least so many pixels count as equally large where a small one has to choose."""


@dataclass(frozen=True, slots=True)
class RowAreas:
    """Areas of pixels as whole numbers, so that sums do not depend on their order."""

    of_row: Index
    """Area of a pixel in each row."""
    per_m2: float
    """How many make a square metre."""

    @classmethod
    def pixels(cls, height: int) -> RowAreas:
        """Counts pixels; square metres are not known."""
        return cls(np.ones(height, np.int64), np.nan)

    @classmethod
    def on(cls, ground: Ground, grid: Grid) -> RowAreas:
        """Square metres: planar or, in geographic systems, on the ellipsoid, for the middle pixel of each row."""
        if ground.unit is None:
            return cls.pixels(grid.height)
        if ground.ellipsoid is None:
            return cls(np.ones(grid.height, np.int64), 1 / (abs(ground.pixel_area) * ground.unit**2))
        col, row = grid.width // 2, np.arange(grid.height)
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
        rings = (np.stack([np.full(grid.height, col), row], axis=1)[:, None] + corners).reshape(-1, 2)
        lon, lat = (ground.coordinates(rings) * ground.unit).T
        areas = np.abs(ground.ellipsoid.areas(lon, lat, np.arange(0, 5 * grid.height + 1, 5)))
        per_m2 = 2.0**62 / (areas.max() * grid.height * grid.width)
        return cls(np.round(areas * per_m2).astype(np.int64), per_m2)

    def limits(self, small: float) -> Limits:
        """What is small, given in these numbers."""
        return Limits(small, min(max(_LARGE_PIXELS * int(self.of_row.max()), int(4 * small)), 2**62))

    def has_smaller(self, small: float) -> bool:
        """Whether any region can be smaller."""
        return bool(self.of_row.min() < small)
