"""The area of interest on a grid: which pixels lie in it, independent of the window that is read."""

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
"""Edges are cut into pieces of the scene's width / 200 before they are reprojected, since straight lines bend."""

Bounds = tuple[float, float, float, float]
"""West, south, east, north in the CRS of a grid."""

_BLOCK = 1024
"""Side in pixels of the blocks that are rasterised. They lie on a fixed lattice, so that the result for a pixel does
not depend on the window that is read."""

_CACHED_BLOCKS = 256
"""Number of blocks in the cache, one bit a pixel: 32 MB."""

_LOCK = threading.RLock()
"""Held during queries of a prepared geometry: a query changes its internal state, and readers run in threads."""

_MARGIN = 2
"""Pixels around a block to which the outline is clipped."""


@dataclass(frozen=True)
class Aoi:
    """An area of interest on a grid; a pixel lies in it if its centre does."""

    grid: Grid
    shape: Any
    """Shapely polygons in the grid's CRS."""
    origin: str
    """File or flag from which the area comes, for messages."""

    @classmethod
    def of(cls, grid: Grid, *, file: Path | None = None, bounds: Bounds | None = None) -> Aoi | None:
        """The area of `--aoi` (a vector file) and `--bounds`: their intersection if both are given, None if neither is.

        Raises:
            InputError: the area does not touch the grid, or holds the centre of no pixel.
        """
        parts = []
        if file is not None:
            parts.append((_read_area(file, grid), str(file)))
        if bounds is not None:
            parts.append((_box(bounds), f"--bounds {show_bounds(bounds)}"))
        if not parts:
            return None
        shape = functools.reduce(shapely.intersection, (part for part, _ in parts))
        aoi = cls(grid, _polygons_of(shape), " with ".join(origin for _, origin in parts))
        aoi.check_hits()
        return aoi

    def on(self, grid: Grid) -> Aoi:
        """The same area on another grid with the same CRS."""
        return Aoi(grid, self.shape, self.origin)

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True where a pixel of `window` lies in the area and on the grid."""
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
                dst = slice(top - window.row, bottom - window.row), slice(left - window.col, right - window.col)
                mask[dst] = block[top - row : bottom - row, left - col : right - col]
        return mask

    def misses(self, window: Window) -> bool:
        """True if certainly no pixel of `window` lies in the area."""
        part = self._on_grid(window)
        if part is None:
            return True
        with _LOCK:
            return not shapely.intersects(self._pixels, shapely.box(part.col, part.row, part.right, part.bottom))

    def check_hits(self) -> None:
        """Refuse an area that does not touch the grid, or that is so small that it holds the centre of no pixel."""
        if self.misses(Window(0, 0, *self.grid.shape)):
            crs = self.grid.crs.to_string() if self.grid.crs else "coordinates without a CRS"
            raise InputError(
                f"{self.origin}: misses the scene, which covers {show_bounds(self.grid.bounds())} ({crs}); "
                f"the area covers {show_bounds(self.shape.bounds)} in the same CRS",
                hint="is the area for another scene, or its CRS wrong?",
            )

        area_window = self._bounding_window()
        if area_window.height * area_window.width <= _BLOCK * _BLOCK and not self.mask(area_window).any():
            raise InputError(f"{self.origin}: is smaller than a pixel and holds no pixel's centre")

    def _bounding_window(self) -> Window:
        """The smallest window around the area; it may extend beyond the grid."""
        left, top, right, bottom = self._pixels.bounds
        row, col = math.floor(top), math.floor(left)
        return Window(row, col, max(1, math.ceil(bottom) - row), max(1, math.ceil(right) - col))

    def _on_grid(self, window: Window) -> Window | None:
        """The part of `window` on the grid; None if there is none."""
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
        """(`_BLOCK`, `_BLOCK`) mask of a block of the lattice; True = in the area."""
        with _LOCK:
            packed = self._packed(row, col)
        if isinstance(packed, bool):
            return np.full((_BLOCK, _BLOCK), packed)
        return np.unpackbits(packed, axis=1).astype(np.bool_)

    @functools.cached_property
    def _packed(self) -> Callable[[int, int], NDArray[np.uint8] | bool]:
        """`_rasterised` behind a cache."""
        return functools.lru_cache(_CACHED_BLOCKS)(self._rasterised)

    def _rasterised(self, row: int, col: int) -> NDArray[np.uint8] | bool:
        """The mask of a block packed to bits; a single bool if it is the same for all pixels.

        The outline is clipped to a little more than the block, because rasterising takes time for each of its vertices.
        """
        top, left = row * _BLOCK, col * _BLOCK
        clip_box = (left - _MARGIN, top - _MARGIN, left + _BLOCK + _MARGIN, top + _BLOCK + _MARGIN)
        if shapely.contains_properly(self._pixels, shapely.box(*clip_box)):
            return True
        clipped = _polygons_of(shapely.clip_by_rect(self._pixels, *clip_box))
        if clipped.is_empty:
            return False
        offset = Affine.translation(left, top)
        return np.packbits(rasterize([clipped], out_shape=(_BLOCK, _BLOCK), transform=offset, dtype=np.uint8), axis=1)


def _box(bounds: Bounds) -> Any:
    """The rectangle of `--bounds`."""
    west, south, east, north = bounds
    if not (np.isfinite(bounds).all() and west < east and south < north):
        raise ConfigError(f"--bounds {show_bounds(bounds)}: must be W,S,E,N with W < E and S < N")
    return shapely.box(*bounds)


def _read_area(file: Path, grid: Grid) -> Any:
    """The union of all polygons of a vector file in the grid's CRS; in the file's CRS if the grid has none."""
    shapes = read_polygons(file).geometry.make_valid()
    if grid.crs is None:
        return _polygons_of(shapes.union_all())
    if shapes.crs is None:
        raise no_crs(file)
    reprojected = to_crs(_clipped(shapes, grid, file), grid.crs.to_wkt(), file)
    return _polygons_of(reprojected.make_valid().union_all())


def _polygons_of(shape: Any) -> Any:
    """The polygons of a geometry, without the points and lines that repairing and clipping leave."""
    parts = shapely.get_parts(shape, return_index=False)
    while any(part.geom_type.startswith(("Multi", "GeometryC")) for part in parts):
        parts = shapely.get_parts(parts)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and not part.is_empty])


def _clipped(shapes: geopandas.GeoSeries, grid: Grid, file: Path) -> geopandas.GeoSeries:
    """The part of the area around the grid, with edges cut into pieces short enough to be reprojected exactly."""
    try:
        west, south, east, north = transform_bounds(grid.crs, shapes.crs.to_wkt(), *grid.bounds())
    except FAILURES as error:
        raise InputError(f"{file}: cannot be brought to the scene's CRS ({first_line(error)})") from error
    if west > east:  # across the antimeridian, where longitudes jump by 360 degrees: nothing is clipped
        return shapes.segmentize((east + 360 - west) / _EDGE_STEPS)
    margin = max(east - west, north - south) / 10
    clipped = shapes.clip_by_rect(west - margin, south - margin, east + margin, north + margin)
    clipped = clipped[~clipped.is_empty]
    if clipped.empty:
        raise InputError(
            f"{file}: misses the scene, which covers {show_bounds((west, south, east, north))} in the area's CRS; "
            f"the area covers {show_bounds(shapes.total_bounds)}",
            hint="is the area for another scene, or its CRS wrong?",
        )
    return clipped.segmentize(10 * margin / _EDGE_STEPS)
