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
from co2s_cli.files import atomic_file, atomic_folder, check_output, check_writable, clear_leftovers
from co2s_cli.geo.grid import Grid

STDOUT = Path("-")
"""Name of an output that means GeoJSON lines on standard output."""

_GEOMETRY = "geometry"
"""Name of the geometry column."""
_BOX = ("xmin", "ymin", "xmax", "ymax")
_PART_FEATURES, _GROUP_FEATURES = 250_000, 25_000
"""Number of features of each file, and of each row group, of GeoParquet in a folder."""
_PYOGRIO_ERRORS = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError)


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """How files of a vector format are written."""

    driver: str | None
    """GDAL's driver; None for GeoParquet, which is written by Arrow because GDAL's wheels cannot."""
    lonlat: bool = False
    """Whether coordinates are always longitude and latitude (EPSG:4326), and rounded (RFC 7946)."""
    dataset_options: Mapping[str, str] = field(default_factory=dict)
    layer_options: Mapping[str, str] = field(default_factory=dict)


FORMATS = {
    # GDAL's default, version 1.4, makes older readers warn
    ".gpkg": VectorFormat("GPKG", dataset_options={"VERSION": "1.3"}),
    ".fgb": VectorFormat("FlatGeobuf"),
    ".parquet": VectorFormat(None),
    ".geojson": VectorFormat("GeoJSON", lonlat=True, layer_options={"RFC7946": "YES"}),
    ".geojsonl": VectorFormat("GeoJSONSeq", lonlat=True),
}
"""Suffix → format. An entry is all that is needed to add a format that GDAL writes."""


@dataclass(frozen=True, slots=True)
class Table:
    """Some features."""

    geometry: NDArray[np.object_]
    """(features) WKB."""
    fields: dict[str, NDArray[Any]]
    """Name of each field → its values (features)."""

    def __len__(self) -> int:
        return len(self.geometry)

    def head(self, count: int) -> Table:
        """The first `count` features."""
        return Table(self.geometry[:count], {name: column[:count] for name, column in self.fields.items()})

    def to_arrow(self) -> Any:
        """The features as an Arrow table, with null for NaN."""
        columns = {_GEOMETRY: pa.array(self.geometry, pa.binary())}
        for name, column in self.fields.items():
            columns[name] = pa.array(column, pa.string() if column.dtype == object else None, from_pandas=True)
        return pa.table(columns)


@dataclass(frozen=True, slots=True)
class Schema:
    """Layer, CRS, fields and geometry type, which all features of an output share."""

    layer: str
    """Name of the layer."""
    crs: str | None
    """CRS as WKT; None if unknown."""
    empty: Table
    """A table without features, which gives the names and types of the fields."""
    decimals: int
    """Decimals of longitudes and latitudes in text formats."""
    geometry: Literal["Polygon", "Point"] = "Polygon"


def format_of(out: Path) -> VectorFormat:
    """The format of a file by its suffix; GeoJSON lines for `STDOUT`.

    Raises:
        ConfigError: no format has this suffix.
    """
    suffix = ".geojsonl" if out == STDOUT else out.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{out}: the suffix decides the format, wanted is one of {' '.join(FORMATS)}, found {suffix or 'none'}"
        )
    return FORMATS[suffix]


def decimals(pixel_degrees: float) -> int:
    """Number of decimals of degrees that resolves a thousandth of a pixel."""
    return min(15, max(0, math.ceil(-math.log10(pixel_degrees)) + 3))


def check_partitioned(out: Path, *, overwrite: bool) -> None:
    """Check, before any work, that the folder `out` can be written: it must be missing or empty.

    With `overwrite` it may also hold the files of an earlier output, `part-*.parquet`.

    Raises:
        ConfigError: the folder's name does not end in .parquet.
        OutputError: the folder holds other files, must not be overwritten, or cannot be created.
    """
    if out.suffix.lower() != ".parquet":
        raise ConfigError(
            f"{out}/: an output folder holds GeoParquet, so that its name must end in .parquet/, found {out.name}/"
        )
    try:
        contents = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise OutputError(f"{out}: cannot be read ({error.strerror})") from error
    others = [name for name in contents if not fnmatch.fnmatch(name, "part-*.parquet")]
    if others:
        raise OutputError(
            f"{out}: holds {others[0]}, which co2s has not written as part of polygons", hint="choose another name"
        )
    if contents and not overwrite:
        raise OutputError(f"{out}: exists and is not overwritten", hint="add --overwrite, or choose another name")
    if not out.is_dir():
        check_output(out, overwrite=overwrite)
    check_writable(out.parent)
    clear_leftovers(out)


def write_partitioned(out: Path, schema: Schema, tables: Iterator[Table]) -> None:
    """Write a stream of features to a folder of GeoParquet files, which appears when the stream ends.

    Files and row groups have fixed numbers of features, independent of the sizes of the tables. A column `bbox` lets
    readers skip row groups outside the area that they need.

    Raises:
        OutputError: there is no room or no permission.
    """
    with atomic_folder(out) as folder:
        for number, part in enumerate(_parts(schema, tables)):
            with (
                atomic_file(folder / f"part-{number:05}.parquet") as path,
                parquet.ParquetWriter(path, part.schema, compression="zstd") as file,
            ):
                file.write_table(part, _GROUP_FEATURES)


def _parts(schema: Schema, tables: Iterator[Table]) -> Iterator[Any]:
    """Arrow tables of `_PART_FEATURES` features each; the last one has the remaining features. At least one table."""
    arrow_schema = _with_boxes(schema.empty).schema.with_metadata(_geo_metadata(schema, boxes=True))
    pending = arrow_schema.empty_table()
    written = 0
    for table in tables:
        pending = pa.concat_tables([pending, _with_boxes(table).cast(arrow_schema)])
        while len(pending) >= _PART_FEATURES:
            yield pending.slice(0, _PART_FEATURES)
            written, pending = written + 1, pending.slice(_PART_FEATURES)
    if len(pending) or not written:
        yield pending


def _with_boxes(table: Table) -> Any:
    """The features as an Arrow table with a column of their bounding boxes."""
    bounds = shapely.bounds(shapely.from_wkb(table.geometry)).reshape(-1, len(_BOX))
    boxes = pa.StructArray.from_arrays([pa.array(column) for column in bounds.T], names=list(_BOX))
    return table.to_arrow().append_column("bbox", boxes)


def write(out: Path, schema: Schema, tables: Iterator[Table]) -> None:
    """Write a stream of features to the file `out`, which appears when the stream ends; no file after an exception.

    Args:
        out: File, or `STDOUT`.
        schema: Layer, CRS and fields of the features.
        tables: The features.

    Raises:
        OutputError: there is no room or no permission, or the reader of standard output has gone.
    """
    try:
        if out == STDOUT:
            _write_with_gdal("/vsistdout/", format_of(out), schema, tables)
            return
        with atomic_file(out) as part:
            if format_of(out).driver is None:
                _write_parquet(part, schema, tables)
            else:
                _write_with_gdal(str(part), format_of(out), schema, tables)
    except _PYOGRIO_ERRORS as error:
        raise OutputError(f"{out}: could not be written ({error})") from error


def _write_with_gdal(path: str, target: VectorFormat, schema: Schema, tables: Iterator[Table]) -> None:
    """Write the features with GDAL, which reads them from an Arrow stream."""
    rounding = {"COORDINATE_PRECISION": str(schema.decimals)} if target.lonlat else {}
    with _stream(schema.empty, tables) as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # a raster may have no CRS
        pyogrio.raw.write_arrow(
            stream, path, layer=schema.layer, driver=target.driver, geometry_name=_GEOMETRY,
            geometry_type=schema.geometry, crs=schema.crs, dataset_options=dict(target.dataset_options),
            layer_options={**target.layer_options, **rounding},
        )  # fmt: skip


@contextlib.contextmanager
def _stream(empty: Table, tables: Iterator[Table]) -> Iterator[Any]:
    """An Arrow stream of the features; `tables` advances one table at a time while the stream is read.

    Arrow reduces an exception raised by `tables` to text; the original exception is raised at the end of the `with`
    block.
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
    """Metadata of GeoParquet 1.1 about the geometry column; with `boxes` also about the column of bounding boxes."""
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
    """Write a polygon for each 4-connected region of one class in each patch to a GeoPackage; the number of polygons.

    Fields are `class`, the name, and `class_id`. The patches must not touch each other, because regions are not joined
    across patches. Meant for the few percent of a scene that people label; whole maps go through `geo/polygons`.

    Raises:
        OutputError: there is no room or no permission.
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
