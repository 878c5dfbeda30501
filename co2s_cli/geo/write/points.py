"""Write the points of a sample, to be filled in by a person, with the style that shows what is left to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.files import write_text
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write import styles, vector

CLASS = "class"
"""Field to fill in."""


def write_points(path: Path, places: NDArray[np.int64], *, grid: Grid, classes: ClassMap, drawn_as: str) -> Path:
    """Write a point at the centre of each pixel of `places` (n; class id, row, column); returns the path of its style.

    Fields: `number`, an empty `class`, and `drawn_as`, the class of the map.

    Raises:
        OutputError: no room, no permission.
    """
    class_ids, rows, cols = places.T
    x, y = grid.at(cols + 0.5, rows + 0.5)
    fields = {
        "number": np.arange(1, len(places) + 1, dtype=np.int32),
        CLASS: np.full(len(places), None, object),
        drawn_as: np.array(classes.names, object)[class_ids],
    }
    table = vector.Table(shapely.to_wkb(shapely.points(x, y)), fields)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    schema = vector.Schema(path.stem, crs, table.head(0), decimals=8, geometry="Point")
    vector.write(path, schema, iter([table]))
    style = path.with_suffix(".qml")
    write_text(style, styles.point_qml(classes, CLASS))
    return style
