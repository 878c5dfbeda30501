"""The area of interest on a grid: which pixels are in, the same whichever window asks."""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.gdal import FAILURES, first_line
from co2s_cli.geo.grid import Grid, show_bounds
from co2s_cli.geo.read.features import no_crs, read_polygons, to_crs
from co2s_cli.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import geopandas

_EDGE_STEPS = 200
"""Steps along the scene's width into which an edge is cut before it is reprojected: straight lines bend."""

Bounds = tuple[float, float, float, float]

_BLOCK = 1024
"""Side of the blocks that are rasterised. They lie on a fixed lattice, so that no pixel's answer can depend on the
window that asks."""

_KEPT = 256
"""Blocks that are remembered, one bit a pixel: 32 MB."""

_LOCK = threading.RLock()
"""Held while a prepared geometry is asked: it completes itself on the way, and readers are threads."""

_MARGIN = 2
"""Pixels around a block within which the outline is kept as it is."""


@dataclass(frozen=True)
class Aoi:
    """An area on a grid: a pixel is in where its centre is in."""

    grid: Grid
    shape: Any
    """Shapely polygons in the grid's CRS."""
    origin: str
    """Where it came from, for messages."""

    @classmethod
    def of(cls, grid: Grid, *, file: Path | None = None, bounds: Bounds | None = None) -> Aoi | None:
        """The area of `--aoi` and `--bounds` (west, south, east, north in the grid's CRS); both: what they share.

        None where neither is given. `InputError` where it misses the grid.
        """
        parts = []
        if file is not None:
            parts.append((read_area(file, grid), str(file)))
        if bounds is not None:
            parts.append((_box(bounds), f"--bounds {show_bounds(bounds)}"))
        if not parts:
            return None
        shape = functools.reduce(shapely.intersection, (part for part, _ in parts))
        aoi = cls(grid, polygons_of(shape), " with ".join(origin for _, origin in parts))
        aoi.check_hits()
        return aoi

    def on(self, grid: Grid) -> Aoi:
        """The same area on another grid of the same CRS."""
        return Aoi(grid, self.shape, self.origin)

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels (h, w) of `window` are in the area and on the grid; True = in."""
        mask = np.zeros((window.height, window.width), np.bool_)
        part = self._on_grid(window)
        if part is None:
            return mask
        for block_row in range(part.row // _BLOCK, (part.bottom - 1) // _BLOCK + 1):
            for block_col in range(part.col // _BLOCK, (part.right - 1) // _BLOCK + 1):
                row, col = block_row * _BLOCK, block_col * _BLOCK
                top, bottom = max(part.row, row), min(part.bottom, row + _BLOCK)
                left, right = max(part.col, col), min(part.right, col + _BLOCK)
                block = self._block(block_row, block_col)
                here = slice(top - window.row, bottom - window.row), slice(left - window.col, right - window.col)
                mask[here] = block[top - row : bottom - row, left - col : right - col]
        return mask

    def misses(self, window: Window) -> bool:
        """True where surely no pixel of `window` is in the area."""
        part = self._on_grid(window)
        if part is None:
            return True
        with _LOCK:
            return not shapely.intersects(self._pixels, shapely.box(part.col, part.row, part.right, part.bottom))

    def check_hits(self) -> None:
        """Refuse an area that holds no pixel of the grid."""
        if self.misses(Window(0, 0, *self.grid.shape)):
            crs = self.grid.crs.to_string() if self.grid.crs else "coordinates without a CRS"
            raise InputError(
                f"{self.origin}: misses the scene, which covers {show_bounds(self.grid.bounds())} ({crs}); "
                f"the area covers {show_bounds(self.shape.bounds)} there",
                hint="is the area for another scene, or its CRS wrong?",
            )

        around = self._around()
        if around.height * around.width <= _BLOCK * _BLOCK and not self.mask(around).any():
            raise InputError(f"{self.origin}: is smaller than a pixel, it holds the centre of none")

    def _around(self) -> Window:
        """The smallest window, on the grid or not, around the area."""
        left, top, right, bottom = self._pixels.bounds
        row, col = math.floor(top), math.floor(left)
        return Window(row, col, max(1, math.ceil(bottom) - row), max(1, math.ceil(right) - col))

    def _on_grid(self, window: Window) -> Window | None:
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None

    @functools.cached_property
    def _pixels(self) -> Any:
        """The area in pixel coordinates (column, row)."""
        a, b, c, d, e, f = tuple(~self.grid.transform)[:6]
        shape = shapely.transform(self.shape, lambda xy: xy @ np.array([[a, d], [b, e]]) + np.array([c, f]))
        shapely.prepare(shape)
        return shape

    def _block(self, row: int, col: int) -> NDArray[np.bool_]:
        """One block of the lattice."""
        with _LOCK:
            packed = self._packed(row, col)
        if isinstance(packed, bool):
            return np.full((_BLOCK, _BLOCK), packed)
        return np.unpackbits(packed, axis=1).astype(np.bool_)

    @functools.cached_property
    def _packed(self) -> Callable[[int, int], NDArray[np.uint8] | bool]:
        return functools.lru_cache(_KEPT)(self._rasterised)

    def _rasterised(self, row: int, col: int) -> NDArray[np.uint8] | bool:
        """A block as bits; a single answer where it is the same for all pixels.

        The outline is clipped to a little more than the block, because rasterising takes time for each of its points.
        """
        top, left = row * _BLOCK, col * _BLOCK
        reach = (left - _MARGIN, top - _MARGIN, left + _BLOCK + _MARGIN, top + _BLOCK + _MARGIN)
        if shapely.contains_properly(self._pixels, shapely.box(*reach)):
            return True
        near = polygons_of(shapely.clip_by_rect(self._pixels, *reach))
        if near.is_empty:
            return False
        place = Affine.translation(left, top)
        return np.packbits(rasterize([near], out_shape=(_BLOCK, _BLOCK), transform=place, dtype=np.uint8), axis=1)


def _box(bounds: Bounds) -> Any:
    west, south, east, north = bounds
    if not (np.isfinite(bounds).all() and west < east and south < north):
        raise ConfigError(f"--bounds {show_bounds(bounds)}: wants W,S,E,N with W < E and S < N")
    return shapely.box(*bounds)


def read_area(file: Path, grid: Grid) -> Any:
    """The union of all polygons of a vector file, in the grid's CRS; in its own where the grid has none."""
    shapes = read_polygons(file).geometry.make_valid()
    if grid.crs is None:
        return polygons_of(shapes.union_all())
    if shapes.crs is None:
        raise no_crs(file)
    near = to_crs(_cut(shapes, grid, file), grid.crs.to_wkt(), file)
    return polygons_of(near.make_valid().union_all())


def polygons_of(shape: Any) -> Any:
    """The polygons of a geometry, without the points and lines that repairs and cuts leave."""
    parts = shapely.get_parts(shape, return_index=False)
    while any(part.geom_type.startswith(("Multi", "GeometryC")) for part in parts):
        parts = shapely.get_parts(parts)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and not part.is_empty])


def _cut(shapes: geopandas.GeoSeries, grid: Grid, file: Path) -> geopandas.GeoSeries:
    """The part of the area around the grid, in pieces short enough to follow the grid's CRS."""
    try:
        west, south, east, north = transform_bounds(grid.crs, shapes.crs.to_wkt(), *grid.bounds())
    except FAILURES as error:
        raise InputError(f"{file}: cannot be brought to the scene's CRS ({first_line(error)})") from error
    if west > east:  # over the antimeridian; nothing is cut off, because the other side has other numbers
        return shapes.segmentize((east + 360 - west) / _EDGE_STEPS)
    margin = max(east - west, north - south) / 10
    near = shapes.clip_by_rect(west - margin, south - margin, east + margin, north + margin)
    near = near[~near.is_empty]
    if near.empty:
        raise InputError(
            f"{file}: misses the scene, which covers {show_bounds((west, south, east, north))} in the area's CRS; "
            f"the area covers {show_bounds(shapes.total_bounds)}",
            hint="is the area for another scene, or its CRS wrong?",
        )
    return near.segmentize(10 * margin / _EDGE_STEPS)
