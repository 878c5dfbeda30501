"""Sample points with the class that a person has assigned to each, placed on the pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import ClassOfValue, class_of, ids_of_values
from co2s_cli.geo.labels.polygon_file import has_value, no_attribute, on_grid
from co2s_cli.geo.read.features import read_features

MAP_CLASS = "map_class"
"""Field with the name of the map's class at the point when the point was drawn."""


@dataclass(frozen=True, slots=True)
class LabelledPoints:
    """The points of a sample and their classes."""

    rows: NDArray[np.int64]
    """(n) row of the map's pixel under each point; outside the range of rows for points beyond the map."""
    cols: NDArray[np.int64]
    """(n) column of the map's pixel under each point; outside the range of columns for points beyond the map."""
    class_ids: NDArray[np.uint8]
    """(n) class that a person has assigned; `IGNORE` where none is assigned yet."""
    class_when_drawn: tuple[str | None, ...] | None
    """(n) name of the map's class when each point was drawn; None if the file has no field `MAP_CLASS`."""

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(n) True where a point lies on a map of `shape` (rows, columns)."""
        return (self.rows >= 0) & (self.rows < shape[0]) & (self.cols >= 0) & (self.cols < shape[1])


def read_points(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: ClassOfValue) -> LabelledPoints:
    """The points in a vector file on the pixels of `grid`; `attribute` holds a class by name or id, or is empty.

    Raises:
        InputError: the file is missing, cannot be read, holds other geometries than points, or a value is no class.
    """
    frame = read_features(path, "points")
    if attribute not in frame.columns:
        raise no_attribute(path, frame, attribute)
    id_of_value = ids_of_values(path, classes, values)
    frame = on_grid(path, frame, grid)
    shapes = frame.geometry.to_numpy()
    if not len(frame) or not (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        raise InputError(
            f"{path}: --areas needs a file of points only, each at a random place of the map",
            hint="draw points with co2s sample-points; to judge by polygons, leave --areas out",
        )
    cols, rows = grid.pixel_of(shapely.get_x(shapes), shapely.get_y(shapes))
    column = _values_or_none(frame, attribute)
    ids = [IGNORE if value is None else class_of(path, value, classes, id_of_value) for value in column]
    return LabelledPoints(
        np.floor(rows).astype(np.int64),
        np.floor(cols).astype(np.int64),
        np.array(ids, np.uint8),
        tuple(_values_or_none(frame, MAP_CLASS)) if MAP_CLASS in frame.columns else None,
    )


def _values_or_none(frame: Any, attribute: str) -> list[Any]:
    """Values of a field; None where the field is empty."""
    column = frame[attribute]
    return [value if is_set else None for value, is_set in zip(column, has_value(column), strict=True)]
