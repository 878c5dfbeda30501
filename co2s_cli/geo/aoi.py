"""The area of interest: polygons of any vector format and CRS, or bounds, as masks on a grid."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.gdal import first_line
from co2s_cli.geo.grid import Grid
from co2s_cli.tiling import Window

_BLOCK = 1024
"""Side of the blocks that are rasterised; they lie on a fixed lattice, so that a pixel's answer cannot depend on
the window that asks."""

_KEPT = 64
"""Blocks that are remembered, one byte a pixel."""


@dataclass(frozen=True)
class Aoi:
    """An area on a grid: a pixel is in where its centre is in."""

    grid: Grid
    shape: Any
    """Shapely geometry in the grid's CRS."""
    origin: str
    """Where it came from, for messages."""

    @classmethod
    def of(
        cls,
        grid: Grid,
        *,
        file: Path | None = None,
        bounds: tuple[float, float, float, float] | None = None,
    ) -> Aoi | None:
        """The area of `--aoi` and `--bounds` (west, south, east, north in the grid's CRS); both: what they share.

        None where neither is given. `InputError` where it misses the grid.
        """
        parts = []
        if file is not None:
            parts.append((read_area(file, grid), str(file)))
        if bounds is not None:
            parts.append((_box(bounds), f"--bounds {','.join(f'{value:g}' for value in bounds)}"))
        if not parts:
            return None
        shape = parts[0][0] if len(parts) == 1 else shapely.intersection(parts[0][0], parts[1][0])
        aoi = cls(grid, shape, " with ".join(origin for _, origin in parts))
        aoi.check_hits()
        return aoi

    def on(self, grid: Grid) -> Aoi:
        """The same area on another grid of the same CRS."""
        return Aoi(grid, self.shape, self.origin)

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels (h, w) of `window` are in the area and on the grid; True = in."""
        mask = np.zeros((window.height, window.width), np.bool_)
        for row in range(max(0, window.row) // _BLOCK, -(-min(window.bottom, self.grid.height) // _BLOCK)):
            for col in range(max(0, window.col) // _BLOCK, -(-min(window.right, self.grid.width) // _BLOCK)):
                top, left = max(window.row, row * _BLOCK), max(window.col, col * _BLOCK)
                bottom = min(window.bottom, (row + 1) * _BLOCK, self.grid.height)
                right = min(window.right, (col + 1) * _BLOCK, self.grid.width)
                mask[top - window.row : bottom - window.row, left - window.col : right - window.col] = self._blocks(
                    row, col
                )[top - row * _BLOCK : bottom - row * _BLOCK, left - col * _BLOCK : right - col * _BLOCK]
        return mask

    def misses(self, window: Window) -> bool:
        """True where surely no pixel of `window` is in the area."""
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        if top >= bottom or left >= right:
            return True
        return not shapely.intersects(self._pixels, shapely.box(left, top, right, bottom))

    def check_hits(self) -> None:
        """Refuse an area without a pixel of the grid."""
        if self.misses(Window(0, 0, *self.grid.shape)):
            raise InputError(
                f"{self.origin}: misses the scene, which covers {_show(self.grid.bounds())} in "
                f"{self.grid.crs.to_string() if self.grid.crs else 'its own coordinates'}; the area covers "
                f"{_show(self.shape.bounds)} there",
                hint="is the area for another scene, or its CRS wrong?",
            )

    @functools.cached_property
    def _pixels(self) -> Any:
        """The area in pixel coordinates (column, row)."""
        a, b, c, d, e, f = tuple(~self.grid.transform)[:6]
        shape = shapely.transform(self.shape, lambda xy: np.column_stack((_line(a, b, c, xy), _line(d, e, f, xy))))
        shapely.prepare(shape)
        return shape

    @functools.cached_property
    def _blocks(self) -> Any:
        return functools.lru_cache(_KEPT)(self._block)

    def _block(self, row: int, col: int) -> NDArray[np.bool_]:
        """One block of the lattice, rasterised from the shape clipped to a little more than the block."""
        top, left = row * _BLOCK, col * _BLOCK
        near = shapely.clip_by_rect(self._pixels, left - 2, top - 2, left + _BLOCK + 2, top + _BLOCK + 2)
        if near.is_empty:
            return np.zeros((_BLOCK, _BLOCK), np.bool_)
        place = Affine.translation(left, top)
        burnt: NDArray[np.uint8] = rasterize([near], out_shape=(_BLOCK, _BLOCK), transform=place, dtype=np.uint8)
        return burnt.astype(np.bool_)


def read_area(file: Path, grid: Grid) -> Any:
    """The union of all polygons of a vector file, in the grid's CRS."""
    import geopandas  # only where an area is given

    try:
        frame = geopandas.read_file(file)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read as polygons ({first_line(error)})") from error
    polygons = frame[frame.geom_type.isin(("Polygon", "MultiPolygon"))]
    if polygons.empty:
        kinds = ", ".join(sorted(set(frame.geom_type.dropna()))) or "nothing"
        raise InputError(f"{file}: polygons wanted, found {kinds}")
    shapes = polygons.geometry.make_valid()
    if grid.crs is not None and shapes.crs is None:
        raise InputError(f"{file}: does not say its CRS", hint="write it with a CRS, for example as GeoPackage")
    if grid.crs is None:
        return shapes.union_all()
    return shapes.to_crs(grid.crs.to_wkt()).union_all()


def _box(bounds: tuple[float, float, float, float]) -> Any:
    west, south, east, north = bounds
    if not (np.isfinite(bounds).all() and west < east and south < north):
        raise ConfigError(f"--bounds {_show(bounds)}: wants W,S,E,N with W < E and S < N")
    return shapely.box(*bounds)


def _line(a: float, b: float, c: float, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    return a * xy[:, 0] + b * xy[:, 1] + c


def _show(values: Any) -> str:
    return ",".join(f"{value:.8g}" for value in values)
