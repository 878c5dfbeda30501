"""Which pixels of a scene a file of labels says anything about, whatever it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from co2s_cli.classes import IGNORE
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.labels import label_grid
from co2s_cli.geo.labels.polygon_file import in_pixels, said
from co2s_cli.geo.read.features import is_vector, read_polygons
from co2s_cli.geo.read.reader import BandReader
from co2s_cli.tiling import Window


class LabelledMask(Protocol):
    """Which pixels are labelled; for one thread."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) of a window inside the scene, True = labelled."""


def open_mask(path: Path, grid: Grid, *, attribute: str, values: Mapping[int | str, Any]) -> LabelledMask:
    """What is labelled in `path` of a scene on `grid`.

    Args:
        path: Polygons in any CRS, or a raster on `grid`; its nodata and 255 are not labelled.
        grid: Of the scene.
        attribute: Polygons that leave it empty are not labelled; where a file does not have it, all of them are.
        values: Those that mean None are not labelled.

    Raises:
        InputError: missing, unreadable, or of another grid.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    void = {str(value) for value, meaning in values.items() if meaning is None}
    if is_vector(path):
        frame = read_polygons(path)
        if attribute in frame.columns:
            frame = frame[said(frame[attribute]) & ~frame[attribute].astype(str).isin(void)]
        shapes = in_pixels(path, frame, grid) if len(frame) else np.empty(0, object)
        return _LabelledPolygons(shapes, shapely.STRtree(shapes))
    problem = grid_problem(path, label_grid(path), grid)
    if problem is not None:
        raise problem
    return _LabelledRaster(str(path), tuple(sorted(int(value) for value in void if value.lstrip("-").isdecimal())))


@dataclass(frozen=True, slots=True)
class _LabelledPolygons:
    shapes: NDArray[Any]
    """In pixels (column, row)."""
    tree: Any

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Every pixel that a polygon touches is labelled."""
        hits = self.tree.query(shapely.box(window.col, window.row, window.right, window.bottom), predicate="intersects")
        shape = (window.height, window.width)
        if not hits.size:
            return np.zeros(shape, np.bool_)
        offset = Affine.translation(window.col, window.row)
        burnt = rasterize(self.shapes[hits], out_shape=shape, transform=offset, all_touched=True, dtype=np.uint8)
        return np.asarray(burnt > 0)


@dataclass(frozen=True, slots=True)
class _LabelledRaster:
    source: str
    void: tuple[int, ...]

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Every pixel with a value is labelled."""
        with reading(self.source) as dataset:
            values = BandReader(self.source, dataset).read(window)
            nodata = [] if dataset.nodata is None else [dataset.nodata]
        return ~np.isin(values, [IGNORE, *nodata, *self.void])
