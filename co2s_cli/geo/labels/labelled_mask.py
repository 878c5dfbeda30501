"""Which pixels of a scene are labelled in a label file, whatever their class."""

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
from co2s_cli.geo.labels.polygon_file import has_value, in_pixels
from co2s_cli.geo.read.features import is_vector, read_shapes
from co2s_cli.geo.read.reader import BandReader
from co2s_cli.tiling import Window


class LabelledMask(Protocol):
    """Reads which pixels are labelled; an instance belongs to one thread."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True where a pixel of `window`, which lies inside the scene, is labelled."""


def open_mask(path: Path, grid: Grid, *, attribute: str, values: Mapping[int | str, Any]) -> LabelledMask:
    """The mask of the labelled pixels in the file `path` for a scene on `grid`.

    Args:
        path: Polygons and points in any CRS, or a raster on `grid`, whose nodata, NaN and 255 are not labelled.
        grid: Grid of the scene.
        attribute: Those with no value in it are not labelled; if the file lacks it, all of them are labelled.
        values: Value → class, as in data.yaml; values that map to None are not labelled.

    Raises:
        InputError: the file is missing, cannot be read, or is a raster on another grid.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    unlabelled = {str(value) for value, meaning in values.items() if meaning is None}
    if is_vector(path):
        frame = read_shapes(path)
        if attribute in frame.columns:
            frame = frame[has_value(frame[attribute]) & ~frame[attribute].astype(str).isin(unlabelled)]
        shapes = in_pixels(path, frame, grid) if len(frame) else np.empty(0, object)
        return _LabelledPolygons(shapes, shapely.STRtree(shapes))
    problem = grid_problem(path, label_grid(path), grid)
    if problem is not None:
        raise problem
    numbers = sorted(int(value) for value in unlabelled if value.lstrip("-").isdecimal())
    return _LabelledRaster(str(path), tuple(numbers))


@dataclass(frozen=True, slots=True)
class _LabelledPolygons:
    shapes: NDArray[Any]
    """Shapely geometries in pixels (column, row)."""
    tree: Any
    """Spatial index of the shapes."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True where a polygon or a point's pixel touches the pixel."""
        hits = self.tree.query(shapely.box(window.col, window.row, window.right, window.bottom), predicate="intersects")
        shape = (window.height, window.width)
        if not hits.size:
            return np.zeros(shape, np.bool_)
        offset = Affine.translation(window.col, window.row)
        touched = rasterize(self.shapes[hits], out_shape=shape, transform=offset, all_touched=True, dtype=np.uint8)
        return np.asarray(touched > 0)


@dataclass(frozen=True, slots=True)
class _LabelledRaster:
    source: str
    unlabelled: tuple[int, ...]
    """Values, besides nodata, NaN and 255, that mean "not labelled"."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True where the raster has a value that is labelled."""
        with reading(self.source) as dataset:
            values = BandReader(self.source, dataset).read(window)
            nodata = [] if dataset.nodata is None else [dataset.nodata]
        return np.asarray(~(np.isin(values, [IGNORE, *nodata, *self.unlabelled]) | np.isnan(values)))
