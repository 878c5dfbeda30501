"""Write boxes in which a person draws labels or to which a person assigns classes, with a QGIS style for that work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.files import write_text
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write import styles, vector

CLASS = "class"
"""Name of the empty field for the class that a person assigns."""


def write_boxes(
    path: Path, corners: NDArray[np.int64], side: int, *, grid: Grid, classes: ClassMap, fields: Mapping[str, Any]
) -> Path:
    """Write a box of `side` × `side` pixels at each of `corners` and a style; the path of the style.

    Fields of the file are `rank` from 1, an empty `class`, and those of `fields`.

    Args:
        path: Vector file to write.
        corners: (n, 2) row and column of the first pixel of each box.
        side: Side of a box in pixels.
        grid: Grid of the pixels.
        classes: Classes from which the person chooses.
        fields: Further columns (n) by name.

    Raises:
        OutputError: there is no room or no permission.
    """
    rows, cols = corners[:, 0, None], corners[:, 1, None]
    x, y = grid.at(cols + side * np.array([0, 1, 1, 0, 0]), rows + side * np.array([0, 0, 1, 1, 0]))
    columns = {
        "rank": np.arange(1, len(corners) + 1, dtype=np.int32),
        CLASS: np.full(len(corners), None, object),
        **{name: np.asarray(column) for name, column in fields.items()},
    }
    table = vector.Table(shapely.to_wkb(shapely.polygons(np.stack([x, y], axis=-1))), columns)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    vector.write(path, vector.Schema(path.stem, crs, table.head(0), decimals=8), iter([table]))
    style = path.with_suffix(".qml")
    write_text(style, styles.box_qml(classes, CLASS))
    return style
