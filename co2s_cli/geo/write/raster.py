"""Rasters out: strips of rows in, a Cloud-Optimized GeoTIFF with colours and names out, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window as RasterioWindow

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import InputError, OutputError
from co2s_cli.geo.gdal import FAILURES, first_line, open_dataset
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.checks import check_whole
from co2s_cli.geo.write import style

BLOCK = 512
"""Side of the blocks of everything that is written."""

TILED = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1,
         "interleave": "pixel"}  # fmt: skip
"""Options of GeoTIFFs that are read once more and then removed: zstd takes a sixth of the time of deflate."""

STEPS = 254
"""A fraction p in [0, 1] is stored as round(p × STEPS) in uint8, so that 255 is left for 'no value'."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What the bands of a raster hold and how they are stored."""

    names: tuple[str, ...]
    """Description of each band."""
    dtype: Literal["uint8", "float32"]
    nodata: float
    resampling: Literal["mode", "average"]
    """How overviews are made."""
    scale: float = 1.0
    """Stored value × scale is the true one; GDAL and QGIS apply it."""
    classes: ClassMap | None = None
    """The classes of a class raster: they bring palette, names and style."""


def class_layer(classes: ClassMap) -> Layer:
    """One uint8 band of class ids, nodata 255."""
    return Layer(("class",), "uint8", IGNORE, "mode", classes=classes)


def fraction_layer(name: str, dtype: Literal["uint8", "float32"] = "uint8") -> Layer:
    """One band of amounts from 0 to 1: uint8 `STEPS`-ths, nodata 255, that GDAL scales, or float32, nodata NaN."""
    return _fractions((name,), dtype)


def probability_layer(classes: ClassMap, dtype: Literal["uint8", "float32"]) -> Layer:
    """One band per class: uint8 `STEPS`-ths, nodata 255, or float32, nodata NaN."""
    return _fractions(classes.names, dtype)


def _fractions(names: tuple[str, ...], dtype: Literal["uint8", "float32"]) -> Layer:
    if dtype == "uint8":
        return Layer(names, "uint8", IGNORE, "average", scale=1 / STEPS)
    return Layer(names, "float32", float("nan"), "average")


class RasterWriter:
    """Takes the rows of a raster from top to bottom."""

    def __init__(self, dataset: Any, grid: Grid, layer: Layer) -> None:
        self._dataset = dataset
        self._grid = grid
        self._layer = layer
        self.rows = 0
        """Rows written so far."""

    def write(self, row: int, array: NDArray[Any]) -> None:
        """Write (h, width) or (bands, h, width) as rows `row` … `row + h`, which follow those written before."""
        bands = array[None] if array.ndim == 2 else array
        wanted = (len(self._layer.names), self._grid.width)
        if row != self.rows or (bands.shape[0], bands.shape[2]) != wanted or row + bands.shape[1] > self._grid.height:
            raise ValueError(f"row {row} of shape {bands.shape} does not follow row {self.rows} of {self._grid.shape}")
        if bands.dtype != np.dtype(self._layer.dtype):
            raise ValueError(f"{bands.dtype} given for a raster of {self._layer.dtype}")
        self._dataset.write(bands, window=RasterioWindow(0, row, self._grid.width, bands.shape[1]))
        self.rows += bands.shape[1]


@contextlib.contextmanager
def raster(
    path: Path,
    *,
    grid: Grid,
    layer: Layer,
    tags: Mapping[str, str],
    creation: Mapping[str, str] | None = None,
) -> Iterator[RasterWriter]:
    """Write a raster: rows go to a tiled file beside `path`; at the end that becomes the COG, which then appears.

    `creation`: options of GDAL's COG driver that were checked by `creation.parse`. A class raster appears together
    with `path.aux.xml` (names) and the `.qml` of the same stem (QGIS style). After an exception nothing is left.

    Raises:
        OutputError: no room, no permission, or a file that does not come out whole.
    """
    with unfinished(path):
        with rows_of_raster(path, grid, layer, tags, creation or {}) as writer:
            yield writer
        appear(path, layer)


@contextlib.contextmanager
def rows_of_raster(
    path: Path, grid: Grid, layer: Layer, tags: Mapping[str, str], creation: Mapping[str, str]
) -> Iterator[RasterWriter]:
    """Take all rows of a raster, then make them the unfinished file of `path`, which has yet to appear."""
    raw = path.with_name(f".{path.name}.rows.tif")
    with create_dataset(raw, grid, layer, tags, driver="GTiff", bigtiff="if_safer", **TILED) as dataset:
        writer = RasterWriter(dataset, grid, layer)
        yield writer
    if writer.rows != grid.height:
        raise ValueError(f"{writer.rows} of {grid.height} rows written")
    make_cog(raw, path, layer, creation, scratch=raw)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Name the output in errors, and remove its unfinished files at the end, whether it has appeared or not.

    Raises:
        OutputError: no room, no permission, or a file that does not come out whole.
    """
    try:
        _clear(path)
        yield
    except (*FAILURES, OSError) as error:
        raise OutputError(f"{path}: could not be written ({first_line(error)})") from error
    finally:
        _clear(path)


def create_dataset(path: Path, grid: Grid, layer: Layer, tags: Mapping[str, str], **options: Any) -> Any:
    """An empty dataset open for writing, with the place, the names, the colours and the tags of a raster."""
    place = {"gcps": grid.gcps, "crs": grid.gcp_crs} if grid.gcps else {"crs": grid.crs, "transform": grid.transform}
    dataset = open_dataset(
        str(path), "w", height=grid.height, width=grid.width, count=len(layer.names), dtype=layer.dtype,
        nodata=layer.nodata, **place, **options,
    )  # fmt: skip
    dataset.descriptions = layer.names
    dataset.scales = (layer.scale,) * len(layer.names)
    if layer.classes is not None:
        dataset.write_colormap(1, style.palette(layer.classes))
    dataset.update_tags(**tags)
    return dataset


def make_cog(
    source: Path, path: Path, layer: Layer, creation: Mapping[str, str], *, scratch: Path | None = None
) -> None:
    """Make the unfinished file of `path` a COG of the pixels of `source`; `scratch` is removed as soon as possible."""
    part = _unfinished_file(path)
    ids = layer.resampling == "mode"
    # ids next to each other have no gradient to predict; amounts are so noisy that more effort costs 6 times the time
    # for a sixth of the size
    compression = {"COMPRESS": "DEFLATE", "PREDICTOR": "NO" if ids else "YES", "LEVEL": "6" if ids else "1"}
    options = {
        **(compression if "COMPRESS" not in creation else {}),
        "BLOCKSIZE": str(BLOCK),
        "OVERVIEW_RESAMPLING": layer.resampling.upper(),
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
        **creation,
    }
    copy_raster(str(source), str(part), driver="COG", **options)
    if scratch is not None:
        scratch.unlink()
    try:  # GDAL reports a full disk on closing at best to its log, so that the file itself is asked
        with open_dataset(str(part)) as dataset:
            check_whole(str(part), dataset)
    except InputError as error:
        raise OSError(f"the file is not whole, is the disk full? {error.message}") from error


def appear(path: Path, layer: Layer) -> None:
    """Put the raster and what belongs to it under their final names; sidecars first, so that a raster seen is whole."""
    part = _unfinished_file(path)
    for suffix in (".aux.xml", ".ovr", ".msk"):  # what belonged to a raster of this name before
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if layer.classes is not None:
        for target, text in style.sidecars(path, layer.classes).items():
            unfinished = part.with_name(part.name + target.suffix)
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(target)
    part.replace(path)


def _unfinished_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.part.tif")


def _clear(path: Path) -> None:
    """Remove unfinished files of this output, also GDAL's own and those of a run that was killed."""
    for stage in ("rows", "part"):
        for left in path.parent.glob(f".{_literal(path.name)}.{stage}.tif*"):
            left.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
