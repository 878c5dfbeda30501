"""Points of a sample whose class a person has written down, on the pixels of a map."""

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
from co2s_cli.geo.labels.labels import Meaning, class_of, meanings_of
from co2s_cli.geo.labels.polygon_file import no_attribute, on_grid, said
from co2s_cli.geo.read.features import read_features

MAP_CLASS = "map_class"
"""Field with the name of the class that the map had when the point was drawn."""


@dataclass(frozen=True, slots=True)
class LabelledPoints:
    """The points of a sample."""

    rows: NDArray[np.int64]
    """(n) pixels of the map; those of points beside it are not on it."""
    cols: NDArray[np.int64]
    class_ids: NDArray[np.uint8]
    """(n) what a person saw; `IGNORE` where nothing is written yet."""
    drawn_as: tuple[str | None, ...] | None
    """(n) name of the class that the map had when each point was drawn; None where the file has no such field."""

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(n) whether each point lies on a map of `shape`."""
        return (self.rows >= 0) & (self.rows < shape[0]) & (self.cols >= 0) & (self.cols < shape[1])


def read_points(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: Meaning) -> LabelledPoints:
    """The points in a vector file on the pixels of `grid`; `attribute` holds the name or the id of a class, or nothing.

    Raises:
        InputError: missing, unreadable, no points, or with a meaning that is no class.
    """
    frame = read_features(path, "points")
    if attribute not in frame.columns:
        raise no_attribute(path, frame, attribute)
    meanings = meanings_of(path, classes, values)
    frame = on_grid(path, frame, grid)
    shapes = frame.geometry.to_numpy()
    if not len(frame) or not (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        raise InputError(
            f"{path}: wants points and nothing else, each a random place of the map",
            hint="co2s sample-points draws them; polygons are judged without --areas",
        )
    cols, rows = grid.place_of(shapely.get_x(shapes), shapely.get_y(shapes))
    told = _told(frame, attribute)
    ids = [IGNORE if value is None else class_of(path, value, classes, meanings) for value in told]
    return LabelledPoints(
        np.floor(rows).astype(np.int64),
        np.floor(cols).astype(np.int64),
        np.array(ids, np.uint8),
        tuple(_told(frame, MAP_CLASS)) if MAP_CLASS in frame.columns else None,
    )


def _told(frame: Any, attribute: str) -> list[Any]:
    """Values of a field; None where it holds nothing."""
    return [value if there else None for value, there in zip(frame[attribute], said(frame[attribute]), strict=True)]
