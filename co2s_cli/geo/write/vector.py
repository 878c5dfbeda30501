"""Write features batch by batch: GeoPackage, FlatGeobuf, GeoParquet, GeoJSON, and GeoJSON lines to a file or a pipe."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyogrio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyarrow import parquet
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyproj import CRS
from rasterio.features import shapes
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import ConfigError, OutputError
from co2s_cli.files import appearing, appearing_folder, check_output, check_writable, clear_leftovers
from co2s_cli.geo.grid import Grid

STDOUT = Path("-")
"""GeoJSON lines to standard output."""

_GEOMETRY = "geometry"
_BOX = ("xmin", "ymin", "xmax", "ymax")
_PART_FEATURES, _GROUP_FEATURES = 250_000, 25_000
"""Features of a file, and of a group of its rows, of GeoParquet in a folder."""
_PYOGRIO_ERRORS = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError)


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """How a format of vector files is written."""

    driver: str | None
    """GDAL's driver; None for GeoParquet, which GDAL's wheels cannot write and Arrow can."""
    lonlat: bool = False
    """Coordinates are longitude and latitude (EPSG:4326) always, and rounded (RFC 7946)."""
    dataset_options: Mapping[str, str] = field(default_factory=dict)
    layer_options: Mapping[str, str] = field(default_factory=dict)


FORMATS = {
    ".gpkg": VectorFormat(
        "GPKG", dataset_options={"VERSION": "1.3"}
    ),  # GDAL's own choice, 1.4, makes older readers warn
    ".fgb": VectorFormat("FlatGeobuf"),
    ".parquet": VectorFormat(None),
    ".geojson": VectorFormat("GeoJSON", lonlat=True, layer_options={"RFC7946": "YES"}),
    ".geojsonl": VectorFormat("GeoJSONSeq", lonlat=True),
}
"""Suffix → format: all that is to be said to add one that GDAL writes."""


@dataclass(frozen=True, slots=True)
class Table:
    """Some features: WKB and one array a field."""

    geometry: NDArray[np.object_]
    fields: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.geometry)

    def head(self, count: int) -> Table:
        """The first `count` features."""
        return Table(self.geometry[:count], {name: column[:count] for name, column in self.fields.items()})

    def to_arrow(self) -> Any:
        """The same as an Arrow table; NaN is null."""
        columns = {_GEOMETRY: pa.array(self.geometry, pa.binary())}
        for name, column in self.fields.items():
            columns[name] = pa.array(column, pa.string() if column.dtype == object else None, from_pandas=True)
        return pa.table(columns)


@dataclass(frozen=True, slots=True)
class Schema:
    """What all features of an output share."""

    layer: str
    crs: str | None
    """As WKT."""
    empty: Table
    """No feature, for the names and types of the fields."""
    decimals: int
    """Of longitudes and latitudes in texts."""
    geometry: Literal["Polygon", "Point"] = "Polygon"


def format_of(out: Path) -> VectorFormat:
    """The format of a file by its suffix, or of `STDOUT`.

    Raises:
        ConfigError: no format has this suffix.
    """
    suffix = ".geojsonl" if out == STDOUT else out.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{out}: the suffix tells the format, wanted is one of {' '.join(FORMATS)}, found {suffix or 'none'}"
        )
    return FORMATS[suffix]


def decimals(pixel_degrees: float) -> int:
    """Digits after the point that tell places a thousandth of a pixel apart."""
    return min(15, max(0, math.ceil(-math.log10(pixel_degrees)) + 3))


def check_partitioned(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that holds anything, or with `overwrite` anything but parts.

    Raises:
        ConfigError: its suffix is that of another format.
        OutputError: it may not be replaced, or cannot be made.
    """
    if out.suffix.lower() != ".parquet":
        raise ConfigError(f"{out}/: a folder holds GeoParquet, so that its name ends in .parquet/, found {out.name}/")
    try:
        held = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise OutputError(f"{out}: cannot be read ({error.strerror})") from error
    others = [name for name in held if not fnmatch.fnmatch(name, "part-*.parquet")]
    if others:
        raise OutputError(f"{out}: holds {others[0]}, which is no part of polygons", hint="choose another name")
    if held and not overwrite:
        raise OutputError(f"{out}: exists and is not overwritten", hint="add --overwrite, or choose another name")
    if not out.is_dir():
        check_output(out, overwrite=overwrite)
    check_writable(out.parent)
    clear_leftovers(out)


def write_partitioned(out: Path, schema: Schema, tables: Iterator[Table]) -> None:
    """Write features as they come to a folder of GeoParquet files, which appears when there are no more.

    Files and groups of rows have the same number of features each, however they come, and a column `bbox` by which
    readers pass over those that lie elsewhere.

    Raises:
        OutputError: no room, no permission.
    """
    with appearing_folder(out) as folder:
        for number, part in enumerate(_parts(schema, tables)):
            with (
                appearing(folder / f"part-{number:05}.parquet") as path,
                parquet.ParquetWriter(path, part.schema, compression="zstd") as file,
            ):
                file.write_table(part, _GROUP_FEATURES)


def _parts(schema: Schema, tables: Iterator[Table]) -> Iterator[Any]:
    """Arrow tables of `_PART_FEATURES` features each, the last one of those that are left; one at least."""
    arrow_schema = _with_boxes(schema.empty).schema.with_metadata(_geo_metadata(schema, boxes=True))
    waiting = arrow_schema.empty_table()
    written = 0
    for table in tables:
        waiting = pa.concat_tables([waiting, _with_boxes(table).cast(arrow_schema)])
        while len(waiting) >= _PART_FEATURES:
            yield waiting.slice(0, _PART_FEATURES)
            written, waiting = written + 1, waiting.slice(_PART_FEATURES)
    if len(waiting) or not written:
        yield waiting


def _with_boxes(table: Table) -> Any:
    """The features as an Arrow table with a column of their bounding boxes."""
    bounds = shapely.bounds(shapely.from_wkb(table.geometry)).reshape(-1, len(_BOX))
    boxes = pa.StructArray.from_arrays([pa.array(column) for column in bounds.T], names=list(_BOX))
    return table.to_arrow().append_column("bbox", boxes)


def write(out: Path, schema: Schema, tables: Iterator[Table]) -> None:
    """Write features as they come to `out`, a file that appears when there are no more, or nothing after an exception.

    Args:
        out: File, or `STDOUT`.
        schema: What the features share.
        tables: The features.

    Raises:
        OutputError: no room, no permission, or nobody reads standard output.
    """
    try:
        if out == STDOUT:
            _write_with_gdal("/vsistdout/", format_of(out), schema, tables)
            return
        with appearing(out) as part:
            if format_of(out).driver is None:
                _write_parquet(part, schema, tables)
            else:
                _write_with_gdal(str(part), format_of(out), schema, tables)
    except _PYOGRIO_ERRORS as error:
        raise OutputError(f"{out}: could not be written ({error})") from error


def _write_with_gdal(path: str, target: VectorFormat, schema: Schema, tables: Iterator[Table]) -> None:
    """Let GDAL take the features from an Arrow stream."""
    rounding = {"COORDINATE_PRECISION": str(schema.decimals)} if target.lonlat else {}
    with _stream(schema.empty, tables) as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # a raster without CRS is no surprise here
        pyogrio.raw.write_arrow(
            stream, path, layer=schema.layer, driver=target.driver, geometry_name=_GEOMETRY,
            geometry_type=schema.geometry, crs=schema.crs, dataset_options=dict(target.dataset_options),
            layer_options={**target.layer_options, **rounding},
        )  # fmt: skip


@contextlib.contextmanager
def _stream(empty: Table, tables: Iterator[Table]) -> Iterator[Any]:
    """An Arrow stream of the features, which are asked for one table at a time while it is read.

    An exception on the way to a table goes through Arrow as a mere text; it is raised again when the block ends.
    """
    failures: list[BaseException] = []

    def batches() -> Iterator[Any]:
        try:
            for table in tables:
                yield from table.to_arrow().to_batches()
        except BaseException as error:
            failures.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(empty.to_arrow().schema, batches())
    except Exception as error:
        if failures:
            raise failures[0] from error
        raise


def _write_parquet(path: Path, schema: Schema, tables: Iterator[Table]) -> None:
    """Write GeoParquet 1.1 with a row group for each table."""
    arrow_schema = schema.empty.to_arrow().schema.with_metadata(_geo_metadata(schema))
    with parquet.ParquetWriter(path, arrow_schema, compression="zstd") as file:
        for table in tables:
            if len(table):
                file.write_table(table.to_arrow().cast(arrow_schema))


def _geo_metadata(schema: Schema, *, boxes: bool = False) -> dict[bytes, bytes]:
    """What GeoParquet 1.1 says of the geometries; with `boxes`, which column holds their bounding boxes."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [schema.geometry],
        "orientation": "counterclockwise",
        "crs": None if schema.crs is None else CRS.from_wkt(schema.crs).to_json_dict(),
    }
    if boxes:
        column["covering"] = {"bbox": {side: ["bbox", side] for side in _BOX}}
    geo = {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}
    return {b"geo": json.dumps(geo).encode()}


LabelPatch = tuple[int, int, NDArray[np.uint8]]
"""Row and column of the upper left corner, and class ids (h, w) with `IGNORE` where nothing is labelled."""


def write_outlines(path: Path, patches: Iterable[LabelPatch], *, grid: Grid, classes: ClassMap) -> int:
    """Write one polygon for each region of one class in each patch to a GeoPackage; returns their number.

    Attributes: `class`, the name, and `class_id`. The patches must not touch each other: what touches is not joined.
    For the few percent that people label; whole maps go through the streamed vectoriser.

    Raises:
        OutputError: no room, no permission.
    """
    regions = [region for patch in patches for region in _regions(patch, grid.transform)]
    ids = [class_id for _, class_id in regions]
    table = Table(
        shapely.to_wkb(np.array([outline for outline, _ in regions], object)),
        {
            "class": np.array([classes.names[class_id] for class_id in ids], object),
            "class_id": np.array(ids, np.int32),
        },
    )
    crs = None if grid.crs is None else grid.crs.to_wkt()
    write(path, Schema(path.stem, crs, table.head(0), decimals=0), iter([table]))
    return len(regions)


def _regions(patch: LabelPatch, transform: Affine) -> Iterator[tuple[BaseGeometry, int]]:
    """Outline and class id of each region of a patch."""
    row, col, labels = patch
    patch_transform: Any = transform @ Affine.translation(col, row)
    for outline, class_id in shapes(labels, mask=labels != IGNORE, connectivity=4, transform=patch_transform):
        yield shape(outline), int(class_id)
