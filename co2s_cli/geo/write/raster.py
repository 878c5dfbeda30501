"""Write rasters, whole or not at all: maps as Cloud-Optimized GeoTIFFs with names and colours, and imagery."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window as RasterioWindow

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import ConfigError, InputError, OutputError
from co2s_cli.files import atomic_file, clear_leftovers
from co2s_cli.geo.checksum import CHECKSUM_TAG, UNSET, store_checksum
from co2s_cli.geo.gdal import FAILURES, first_line, open_dataset, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.legend import STEPS
from co2s_cli.geo.read.checks import check_whole
from co2s_cli.geo.write import styles

log = logging.getLogger(__name__)

BLOCK = 512
"""Side in pixels of the blocks of maps."""

TILED = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1,
         "interleave": "pixel"}  # fmt: skip
"""Options of temporary GeoTIFFs, which are read once and then removed: zstd takes a sixth of the time of deflate."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Content and storage of the bands of a raster."""

    names: tuple[str, ...]
    """Description of each band."""
    dtype: Literal["uint8", "float32"]
    nodata: float
    resampling: Literal["mode", "average"]
    """How overviews are computed."""
    scale: float = 1.0
    """True value / stored value; GDAL and QGIS apply it."""
    classes: ClassMap | None = None
    """The classes of a class raster, from which palette, names and style are written; None for rasters of amounts."""


def class_layer(classes: ClassMap) -> Layer:
    """One uint8 band of class ids, nodata 255."""
    return Layer(("class",), "uint8", IGNORE, "mode", classes=classes)


def fraction_layer(name: str, dtype: Literal["uint8", "float32"] = "uint8") -> Layer:
    """One band of amounts p in [0, 1]: round(p · `STEPS`) as uint8 with nodata 255, or float32 with nodata NaN."""
    return _fractions((name,), dtype)


def probability_layer(classes: ClassMap, dtype: Literal["uint8", "float32"]) -> Layer:
    """One band of probabilities for each class, stored as in `fraction_layer`."""
    return _fractions(classes.names, dtype)


def _fractions(names: tuple[str, ...], dtype: Literal["uint8", "float32"]) -> Layer:
    """Bands of amounts with the given names, stored as in `fraction_layer`."""
    if dtype == "uint8":
        return Layer(names, "uint8", IGNORE, "average", scale=1 / STEPS)
    return Layer(names, "float32", float("nan"), "average")


class RasterWriter:
    """Writes the rows of a raster from top to bottom."""

    def __init__(self, dataset: Any, grid: Grid, layer: Layer) -> None:
        self._dataset = dataset
        self._grid = grid
        self._layer = layer
        self.rows = 0
        """Number of rows written so far."""

    def write(self, row: int, array: NDArray[Any]) -> None:
        """Write `array` (h, width) or (bands, h, width) as the next rows, of which `row` is the first."""
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
    """Give a writer for the rows of the raster `path`, a COG that appears at the end of the `with` block.

    Rows are written to a tiled temporary file beside `path`, which at the end is converted to the COG. A class raster
    appears together with `path.aux.xml` (names) and the `.qml` of the same stem (QGIS style). After an exception no
    file is left.

    Args:
        path: File to write.
        grid: Grid of the raster.
        layer: Content of the bands.
        tags: Tags of the raster.
        creation: Options of GDAL's COG driver, checked by `cog_options`.

    Raises:
        OutputError: there is no room or no permission, or the finished file is not whole.
    """
    with unfinished(path, layer) as part, rows_of_raster(part, grid, layer, tags, creation or {}) as writer:
        yield writer


def copy_class_raster(source: Path, path: Path, grid: Grid, classes: ClassMap) -> None:
    """Copy the byte band of `source`, on the same grid, to the class raster `path`, with names and colours.

    Raises:
        OutputError: there is no room or no permission.
    """
    with reading(str(source)) as dataset, raster(path, grid=grid, layer=class_layer(classes), tags={}) as writer:
        for row in range(0, grid.height, BLOCK):
            window = RasterioWindow(0, row, grid.width, min(BLOCK, grid.height - row))
            writer.write(row, dataset.read(1, window=window))


@contextlib.contextmanager
def rows_of_raster(
    part: Path, grid: Grid, layer: Layer, tags: Mapping[str, str], creation: Mapping[str, str]
) -> Iterator[RasterWriter]:
    """Give a writer for all rows of a raster; at the end of the `with` block they become the COG `part`."""
    raw = part.with_suffix(".raw")
    with create_dataset(raw, grid, layer, tags, driver="GTiff", bigtiff="if_safer", **TILED) as dataset:
        writer = RasterWriter(dataset, grid, layer)
        yield writer
    if writer.rows != grid.height:
        raise ValueError(f"{writer.rows} of {grid.height} rows written")
    make_cog(raw, part, layer, creation, scratch=raw)


@contextlib.contextmanager
def unfinished(path: Path, layer: Layer) -> Iterator[Path]:
    """Give a temporary name for the raster `path`; at the end the raster and its sidecar files get their final names.

    Raises:
        OutputError: there is no room or no permission, or the finished file is not whole.
    """
    try:
        clear_leftovers(path)
        with atomic_file(path) as part:
            yield part
            _put_sidecars(path, part, layer)
    except (*FAILURES, OSError) as error:
        raise OutputError(f"{path}: could not be written ({first_line(error)})") from error


def create_dataset(path: Path, grid: Grid, layer: Layer, tags: Mapping[str, str], **options: Any) -> Any:
    """A new dataset, open for writing, with georeference, names, colours and tags, and room for its checksum."""
    georef = {"gcps": grid.gcps, "crs": grid.gcp_crs} if grid.gcps else {"crs": grid.crs, "transform": grid.transform}
    dataset = open_dataset(
        str(path), "w", height=grid.height, width=grid.width, count=len(layer.names), dtype=layer.dtype,
        nodata=layer.nodata, **georef, **options,
    )  # fmt: skip
    dataset.descriptions = layer.names
    dataset.scales = (layer.scale,) * len(layer.names)
    if layer.classes is not None:
        dataset.write_colormap(1, styles.palette(layer.classes))
    dataset.update_tags(**{**tags, CHECKSUM_TAG: UNSET})
    return dataset


def make_cog(
    source: Path, part: Path, layer: Layer, creation: Mapping[str, str], *, scratch: Path | None = None
) -> None:
    """Write the unfinished file `part`, a COG, from the pixels of `source`, with its checksum.

    The file `scratch` is removed as soon as it has been read.
    """
    is_classes = layer.resampling == "mode"
    # class ids have no gradients for a predictor; amounts are so noisy that level 6 takes 6 times the time of level 1
    # and saves a sixth of the size
    compression = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO" if is_classes else "YES",
        "LEVEL": "6" if is_classes else "1",
    }
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
    try:  # a full disk at closing is at best a line in GDAL's log, so that the file itself is checked
        with open_dataset(str(part)) as dataset:
            check_whole(str(part), dataset)
    except InputError as error:
        raise OSError(f"the file is not whole, is the disk full? {error.message}") from error
    store_checksum(part)


def _put_sidecars(path: Path, part: Path, layer: Layer) -> None:
    """Write the sidecar files of the raster `path` before the raster appears, so that a visible raster is complete."""
    for suffix in (".aux.xml", ".ovr", ".msk"):  # of an older raster with the same name
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if layer.classes is not None:
        for target, text in styles.sidecars(path, layer.classes).items():
            if target.suffix == ".qml" and target.exists() and not styles.is_ours(target):
                log.warning("%s: is a style that co2s has not written, it is kept", target)
                continue
            temporary = part.with_name(target.name)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)


_SWITCH = "YES|NO"
_LOSSLESS = "NONE|LZW|DEFLATE|ZSTD|LZMA"
_RESAMPLING = "NEAREST|AVERAGE|BILINEAR|CUBIC|CUBICSPLINE|LANCZOS|MODE|RMS"
_COG_OPTIONS = {
    "COMPRESS": _LOSSLESS,
    "OVERVIEW_COMPRESS": f"AUTO|{_LOSSLESS}",
    "LEVEL": "[0-9]{1,2}",
    "PREDICTOR": "YES|NO|STANDARD|FLOATING_POINT",
    "OVERVIEW_PREDICTOR": "YES|NO|STANDARD|FLOATING_POINT",
    "BLOCKSIZE": "128|256|512|1024|2048|4096",
    "BIGTIFF": "YES|NO|IF_NEEDED|IF_SAFER",
    "NUM_THREADS": "ALL_CPUS|[1-9][0-9]*",
    "OVERVIEWS": "AUTO|IGNORE_EXISTING|FORCE_USE_EXISTING|NONE",
    "OVERVIEW_COUNT": "[0-9]{1,2}",
    "OVERVIEW_RESAMPLING": _RESAMPLING,
    "STATISTICS": "AUTO|YES|NO",
    "SPARSE_OK": _SWITCH,
    "GEOTIFF_VERSION": "AUTO|1\\.0|1\\.1",
}
"""Option of GDAL's COG driver → pattern of its values. Lossy compression, which would change classes, and tiling
schemes, which would change the grid, are not offered."""


def cog_options(pairs: Iterable[str]) -> dict[str, str]:
    """The options of `--co K=V` flags, by name in capitals.

    Raises:
        ConfigError: names the first flag with an unknown option or a bad value.
    """
    return dict(_parse(pair) for pair in pairs)


def _parse(pair: str) -> tuple[str, str]:
    """Name and value of an option K=V, both in capitals."""
    name, _, value = (part.strip().upper() for part in pair.partition("="))
    if name not in _COG_OPTIONS:
        raise ConfigError(f"--co {pair}: no such option", hint=f"known: {', '.join(sorted(_COG_OPTIONS))}")
    if not re.fullmatch(_COG_OPTIONS[name], value):
        raise ConfigError(f"--co {pair}: must be {name}={_COG_OPTIONS[name].replace(chr(92), '')}")
    return name, value


TILE = 512
"""Largest side in pixels of the blocks of imagery; a smaller image is one block."""


class ImageWriter:
    """Writes the parts of an image in any order; whole rows of blocks from top to bottom are fastest."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, row: int, col: int, pixels: NDArray[Any]) -> None:
        """Write `pixels` (bands, h, w) with their upper left corner at (row, col)."""
        self._dataset.write(pixels, window=RasterioWindow(col, row, pixels.shape[2], pixels.shape[1]))


def north_up(height: int, width: int, *, epsg: int, west: float, north: float, resolution: float) -> Grid:
    """A grid of square pixels of `resolution` metres whose upper left corner is at (west, north)."""
    transform = Affine(resolution, 0, west, 0, -resolution, north)
    return Grid(height, width, transform, CRS.from_epsg(epsg))


@contextlib.contextmanager
def image(
    path: Path, *, grid: Grid, bands: tuple[str, ...], dtype: str, nodata: float, tags: Mapping[str, str]
) -> Iterator[ImageWriter]:
    """Give a writer for an image with the named bands, which appears at the end of the `with` block.

    After an exception no file is left.

    Raises:
        OutputError: there is no room or no permission.
    """
    with atomic_file(path) as temporary:
        try:
            with _dataset(temporary, grid, bands, dtype, nodata) as dataset:
                dataset.update_tags(**tags)
                yield ImageWriter(dataset)
            with reading(str(temporary)) as dataset:  # GDAL raises no error if the disk is full at closing
                check_whole(str(temporary), dataset)
        except (RasterioError, InputError) as error:
            raise OutputError(f"{path}: could not be written whole ({first_line(error)})") from error


def _dataset(path: Path, grid: Grid, bands: tuple[str, ...], dtype: str, nodata: float) -> Any:
    """A new GeoTIFF of imagery, open for writing."""
    # without photometric and alpha GDAL takes the fourth of four byte bands for a mask
    color_options = {"photometric": "rgb", "alpha": "no"} if bands[:3] == ("red", "green", "blue") else {}
    # the lowest level of compression: a sensor's noise gets no smaller with more effort
    dataset = open_dataset(
        str(path), "w", driver="GTiff", height=grid.height, width=grid.width, count=len(bands), dtype=np.dtype(dtype),
        nodata=nodata, crs=grid.crs, transform=grid.transform, tiled=True, blockxsize=_block(grid.width),
        blockysize=_block(grid.height), compress="deflate", zlevel=1, predictor=2, interleave="pixel",
        bigtiff="if_safer", num_threads="all_cpus", **color_options,
    )  # fmt: skip
    dataset.colorinterp = [
        ColorInterp[band] if band in ColorInterp.__members__ else ColorInterp.undefined for band in bands
    ]
    dataset.descriptions = bands
    return dataset


def _block(length: int) -> int:
    """Side of a block along an axis of `length` pixels: at most `TILE`, and a multiple of 16 as TIFF requires."""
    return min(TILE, -(-length // 16) * 16)
