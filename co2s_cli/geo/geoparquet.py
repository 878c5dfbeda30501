"""GeoParquet 1.1: WKB in row groups, and the `geo` metadata that says so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyproj import CRS

if TYPE_CHECKING:
    from co2s_cli.geo.vector import Table

_GEOMETRY = "geometry"


@contextlib.contextmanager
def opened(path: Path, crs: str | None, empty: Table) -> Iterator[_Groups]:
    """A file that takes row groups; it is complete when the block ends."""
    from pyarrow import parquet  # an extra: only GeoParquet needs it

    first = _arrow(empty, _metadata(crs))
    with parquet.ParquetWriter(path, first.schema, compression="zstd") as file:
        yield _Groups(file)


class _Groups:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, table: Table) -> None:
        """One more row group."""
        if len(table):
            self._file.write_table(_arrow(table, self._file.schema.metadata))


def _arrow(table: Table, metadata: dict[bytes, bytes]) -> Any:
    import pyarrow as pa

    columns = {_GEOMETRY: pa.array(table.geometry, pa.binary())}
    for name, column in table.fields.items():
        columns[name] = pa.array(column, pa.string() if column.dtype == object else None, from_pandas=True)
    return pa.table(columns).replace_schema_metadata(metadata)


def _metadata(crs: str | None) -> dict[bytes, bytes]:
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "orientation": "counterclockwise",
        "crs": None if crs is None else CRS.from_wkt(crs).to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}
    return {b"geo": json.dumps(geo).encode()}
