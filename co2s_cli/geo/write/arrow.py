"""Features as Arrow batches: a stream that GDAL takes, and GeoParquet 1.1."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from pyproj import CRS

from co2s_cli.geo.write.table import Table

GEOMETRY = "geometry"


@contextlib.contextmanager
def stream(empty: Table, tables: Iterator[Table]) -> Iterator[Any]:
    """A stream of the features, which are asked for one table at a time while it is read.

    What goes wrong on the way to a table goes through Arrow as a mere text; it is raised again when the block ends.
    """
    failures: list[BaseException] = []

    def batches() -> Iterator[Any]:
        try:
            for table in tables:
                yield from _batches(table)
        except BaseException as error:
            failures.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(_arrow(empty).schema, batches())
    except Exception as error:
        if failures:
            raise failures[0] from error
        raise


def write_parquet(path: Path, crs: str | None, empty: Table, tables: Iterator[Table]) -> None:
    """A file with a row group for each table, and the metadata that say where the geometries are."""
    schema = _arrow(empty).schema.with_metadata(_metadata(crs))
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for table in tables:
            if len(table):
                file.write_table(_arrow(table).cast(schema))


def _batches(table: Table) -> list[Any]:
    return list(_arrow(table).to_batches())


def _arrow(table: Table) -> Any:
    columns = {GEOMETRY: pa.array(table.geometry, pa.binary())}
    for name, column in table.fields.items():
        columns[name] = pa.array(column, pa.string() if column.dtype == object else None, from_pandas=True)
    return pa.table(columns)


def _metadata(crs: str | None) -> dict[bytes, bytes]:
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "orientation": "counterclockwise",
        "crs": None if crs is None else CRS.from_wkt(crs).to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    return {b"geo": json.dumps(geo).encode()}
