"""Write features batch by batch: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, and GeoJSON lines to a file or a pipe."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from co2s_cli.errors import ConfigError, OutputError
from co2s_cli.files import appearing
from co2s_cli.geo.write import arrow, geojson
from co2s_cli.geo.write.table import Table

SUFFIXES = (".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl")
GEOJSON = (".geojson", ".geojsonl", "")
"""Written in longitude and latitude; the empty one is standard output."""

STDOUT = Path("-")

_DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
_PYOGRIO_ERRORS = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError)


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


def check_format(out: Path) -> None:
    """Refuse a suffix that no driver stands behind.

    Raises:
        ConfigError: with what to do about it.
    """
    if out == STDOUT:
        return
    if out.suffix.lower() not in SUFFIXES:
        found = out.suffix or "none"
        raise ConfigError(f"{out}: the suffix tells the format, wanted is one of {' '.join(SUFFIXES)}, found {found}")


def write(out: Path, schema: Schema, tables: Iterator[Table], emit: Callable[[str], object]) -> None:
    """Write features as they come to `out`, a file that appears when there are no more, or nothing after an exception.

    Args:
        out: File, or `STDOUT`.
        schema: What the features share.
        tables: The features.
        emit: Takes the text of standard output.
    """
    if out == STDOUT:
        geojson.write_lines(emit, tables, schema.decimals)
        return
    try:
        with appearing(out) as part:
            _write(out.suffix.lower(), part, schema, tables)
    except _PYOGRIO_ERRORS as error:
        raise OutputError(f"{out}: could not be written ({error})") from error


def _write(suffix: str, part: Path, schema: Schema, tables: Iterator[Table]) -> None:
    if suffix == ".parquet":
        arrow.write_parquet(part, schema.crs, schema.empty, tables)
    elif suffix in GEOJSON:
        write_text = geojson.write_collection if suffix == ".geojson" else geojson.write_lines
        with part.open("w", encoding="utf-8") as file:
            write_text(file.write, tables, schema.decimals)
    else:
        with arrow.stream(schema.empty, tables) as stream:
            _write_stream(part, schema, stream)


def _write_stream(part: Path, schema: Schema, stream: Any) -> None:
    """Let GDAL take features from an Arrow stream."""
    with _silent_on_crs():
        pyogrio.raw.write_arrow(
            stream,
            part,
            layer=schema.layer,
            driver=_DRIVERS[part.suffix.lower()],
            geometry_name=arrow.GEOMETRY,
            geometry_type="Polygon",
            crs=schema.crs,
        )


@contextlib.contextmanager
def _silent_on_crs() -> Iterator[None]:
    """A raster without CRS becomes polygons without CRS; that is no surprise here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        yield
