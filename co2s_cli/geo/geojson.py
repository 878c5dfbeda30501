"""GeoJSON after RFC 7946, as one collection or a feature a line; coordinates with as many digits as pixels deserve."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    from co2s_cli.geo.vector import Table

_CHUNK = 5_000
"""Features made into text at a time."""


def decimals(pixel_degrees: float) -> int:
    """Digits after the point that tell places a thousandth of a pixel apart."""
    return min(15, max(0, math.ceil(-math.log10(pixel_degrees)) + 3))


class Lines:
    """One feature a line (GeoJSON text sequences without separators)."""

    def __init__(self, emit: Callable[[str], object], digits: int) -> None:
        self._emit = emit
        self._digits = digits

    def write(self, table: Table) -> None:
        """Write some more features."""
        for text in _texts(table, self._digits):
            self._emit(text + "\n")


@contextlib.contextmanager
def collection(emit: Callable[[str], object], digits: int) -> Iterator[_Collection]:
    """A feature collection; it is complete when the block ends."""
    emit('{"type": "FeatureCollection", "features": [\n')
    yield _Collection(emit, digits)
    emit("\n]}\n")


class _Collection:
    def __init__(self, emit: Callable[[str], object], digits: int) -> None:
        self._emit = emit
        self._digits = digits
        self._before = ""

    def write(self, table: Table) -> None:
        """Write some more features."""
        for text in _texts(table, self._digits):
            self._emit(self._before + text)
            self._before = ",\n"


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
