"""Points of a sample whose class a person has written down, on the pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import shapely
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import Meaning, class_of, meanings_of, onto_crs, read_features

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
    if not path.exists():
        raise InputError(f"{path}: no such file of points")
    meanings = meanings_of(path, classes, values)
    frame = onto_crs(path, read_features(path, attribute), grid)
    shapes = frame.geometry.to_numpy()
    if not len(frame) or not (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        raise InputError(
            f"{path}: wants points and nothing else, each a random place of the map",
            hint="co2s sample-points draws them; polygons are judged without --areas",
        )
    cols, rows = grid.place_of(shapely.get_x(shapes), shapely.get_y(shapes))
    ids = [IGNORE if _empty(value) else class_of(path, value, classes, meanings) for value in frame[attribute]]
    drawn_as = [None if _empty(value) else str(value) for value in frame.get(MAP_CLASS, ())]
    return LabelledPoints(
        np.floor(rows).astype(np.int64),
        np.floor(cols).astype(np.int64),
        np.array(ids, np.uint8),
        tuple(drawn_as) if drawn_as else None,
    )


def _empty(value: Any) -> bool:
    """Whether a field holds nothing: null, NaN or blanks."""
    return bool(pandas.isna(value)) or (isinstance(value, str) and not value.strip())
