"""Write the points of a sample, to which a person assigns classes, with a QGIS style for that work."""

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
"""Name of the empty field for the class that a person assigns."""


def write_points(path: Path, sample: NDArray[np.int64], *, grid: Grid, classes: ClassMap, map_class_field: str) -> Path:
    """Write a point at the centre of each pixel of a sample and a style; the path of the style.

    Fields of the file are `number` from 1, an empty `class`, and `map_class_field`, the name of the map's class.

    Args:
        path: Vector file to write.
        sample: (n, 3) class id on the map, row, column of each pixel.
        grid: Grid of the map.
        classes: Classes of the map.
        map_class_field: Name of the field with the map's class.

    Raises:
        OutputError: there is no room or no permission.
    """
    class_ids, rows, cols = sample.T
    x, y = grid.at(cols + 0.5, rows + 0.5)
    fields = {
        "number": np.arange(1, len(sample) + 1, dtype=np.int32),
        CLASS: np.full(len(sample), None, object),
        map_class_field: np.array(classes.names, object)[class_ids],
    }
    table = vector.Table(shapely.to_wkb(shapely.points(x, y)), fields)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    schema = vector.Schema(path.stem, crs, table.head(0), decimals=8, geometry="Point")
    vector.write(path, schema, iter([table]))
    style = path.with_suffix(".qml")
    write_text(style, styles.point_qml(classes, CLASS))
    return style
