"""GeoJSON after RFC 7946, as one collection or a feature a line; coordinates with as many digits as pixels deserve."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely

from co2s_cli.geo.write.table import Table

_CHUNK = 5_000
"""Features made into text at a time."""


def decimals(pixel_degrees: float) -> int:
    """Digits after the point that tell places a thousandth of a pixel apart."""
    return min(15, max(0, math.ceil(-math.log10(pixel_degrees)) + 3))


def write_lines(emit: Callable[[str], object], tables: Iterator[Table], digits: int) -> None:
    """One feature a line (GeoJSON text sequences without separators)."""
    for table in tables:
        for text in _texts(table, digits):
            emit(text + "\n")


def write_collection(emit: Callable[[str], object], tables: Iterator[Table], digits: int) -> None:
    """A feature collection."""
    emit('{"type": "FeatureCollection", "features": [')
    before = "\n"
    for table in tables:
        for text in _texts(table, digits):
            emit(before + text)
            before = ",\n"
    emit("\n]}\n")


def _texts(table: Table, digits: int) -> Iterator[str]:
    for start in range(0, len(table), _CHUNK):
        part = slice(start, start + _CHUNK)
        shapes = shapely.transform(shapely.from_wkb(table.geometry[part]), lambda places: np.round(places, digits))
        columns = {name: column[part].tolist() for name, column in table.fields.items()}
        for shape, *values in zip(shapely.to_geojson(shapes), *columns.values(), strict=True):
            facts = json.dumps(dict(zip(columns, map(_plain, values), strict=True)), ensure_ascii=False)
            yield f'{{"type": "Feature", "properties": {facts}, "geometry": {shape}}}'


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
