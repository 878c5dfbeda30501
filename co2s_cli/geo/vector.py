"""Write features batch by batch: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, and GeoJSON lines to a file or a pipe."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyogrio
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from co2s_cli.errors import ConfigError, OutputError
from co2s_cli.files import appearing
from co2s_cli.geo import geojson, geoparquet

SUFFIXES = (".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl")
GEOJSON = (".geojson", ".geojsonl", "")
"""Written in longitude and latitude; the empty one is standard output."""

STDOUT = Path("-")

_BATCH = 20_000
_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
_PYOGRIO_ERRORS = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError)


@dataclass(frozen=True, slots=True)
class Table:
    """Some features: WKB and one array a field."""

    geometry: NDArray[np.object_]
    fields: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.geometry)


@dataclass(frozen=True, slots=True)
class Schema:
    """What all features of an output share."""

    layer: str
    crs: str | None
    """As WKT."""
    empty: Table
    """No feature, for the names and types of the fields."""
    decimals: int
    """Of coordinates in texts."""


class Writer(Protocol):
    """Takes features as they come."""

    def write(self, table: Table) -> None:
        """Some more of them."""


def check_format(out: Path) -> None:
    """Refuse a suffix that no driver stands behind, and GeoParquet where its library is missing.

    Raises:
        ConfigError: with what to do about it.
    """
    if out == STDOUT:
        return
    if out.suffix.lower() not in SUFFIXES:
        found = out.suffix or "none"
        raise ConfigError(f"{out}: the suffix tells the format, wanted is one of {' '.join(SUFFIXES)}, found {found}")
    if out.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{out}: GeoParquet needs pyarrow", hint="pip install 'co2s_cli[parquet]'")


@contextlib.contextmanager
def writer(out: Path, schema: Schema, emit: Callable[[str], object]) -> Iterator[Writer]:
    """A writer for `out`, whose file appears when the block ends and not at all after an exception.

    Args:
        out: File, or `STDOUT`.
        schema: What the features share.
        emit: Takes the text of standard output.
    """
    if out == STDOUT:
        yield geojson.Lines(emit, schema.decimals)
        return
    try:
        with appearing(out) as part, _opened(out.suffix.lower(), part, schema) as opened:
            yield opened
    except _PYOGRIO_ERRORS as error:
        raise OutputError(f"{out}: could not be written ({error})") from error


@contextlib.contextmanager
def _opened(suffix: str, part: Path, schema: Schema) -> Iterator[Writer]:
    match suffix:
        case ".parquet":
            with geoparquet.opened(part, schema.crs, schema.empty) as opened:
                yield opened
        case ".geojson":
            with part.open("w", encoding="utf-8") as file, geojson.collection(file.write, schema.decimals) as opened:
                yield opened
        case ".geojsonl":
            with part.open("w", encoding="utf-8") as file:
                yield geojson.Lines(file.write, schema.decimals)
        case _:
            with _spooled(part, schema) as opened:
                yield opened


@contextlib.contextmanager
def _spooled(part: Path, schema: Schema) -> Iterator[Writer]:
    """Features go to a plain GeoPackage beside the output, from which GDAL then writes the output in one stream.

    Added to batch by batch, a GeoPackage keeps its spatial index up to date at three times the cost of building it
    once, and FlatGeobuf, whose features are sorted by theirs, is written anew each time.
    """
    spool = part.with_name(part.name + ".spool.gpkg")
    try:
        batches = _Batches(spool, schema)
        yield batches
        batches.flush()
        with pyogrio.raw.open_arrow(spool, use_pyarrow=False, batch_size=_BATCH) as (found, stream):
            pyogrio.raw.write_arrow(
                stream,
                part,
                layer=schema.layer,
                driver=_DRIVERS[part.suffix.lower()],
                geometry_name=found["geometry_name"],
                geometry_type="Polygon",
                crs=schema.crs,
            )
    finally:
        spool.unlink(missing_ok=True)


class _Batches:
    """Appends to a GeoPackage without index, a good number of features at a time."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[Table] = [schema.empty]
        self._started = False

    def write(self, table: Table) -> None:
        """Keep some more features until they are worth a call."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits; at first also nothing, so that there is a layer."""
        tables, self._waiting = self._waiting, []
        if self._started and not tables:
            return
        names = list(self._schema.empty.fields)
        pyogrio.raw.write(
            self._path,
            np.concatenate([table.geometry for table in tables]),
            [np.concatenate([table.fields[name] for table in tables]) for name in names],
            names,
            layer=self._schema.layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=self._schema.crs,
            append=self._started,
            layer_options=None if self._started else {"SPATIAL_INDEX": "NO", "GEOMETRY_NAME": "geom"},
        )
        self._started = True
