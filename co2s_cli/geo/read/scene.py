"""A scene: the properties of a raster, determined once when it is opened, and readers of its windows."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read import checks
from co2s_cli.geo.read import overview as decimate
from co2s_cli.geo.read.bands import band_names, bands_of_model
from co2s_cli.geo.read.reader import Patch, RasterReader, SceneReader
from co2s_cli.geo.read.shared import SharedBlocks
from co2s_cli.geo.read.validity import Rules, block_item
from co2s_cli.geo.sources import is_local
from co2s_cli.limits import MAX_SIDE

SAME_RESOLUTION = 0.02
"""Ground resolutions that differ by at most this share count as equal: a UTM pixel of 10 m measures 9.996 to 10.01."""

RESOLUTION_GAP = 1.5
"""Largest factor between the ground resolutions of scene and model without a warning."""

_ARCHIVE_ON_DISK = re.compile(r"/vsi(zip|tar|gzip|7z|rar|sparse)/+(?!vsi|\w+://)")
"""Start of GDAL's name for a file in an archive on this machine."""

Nodata = float | Literal["none"] | None
"""The value that means "no data"; None: the value that the file declares; "none": no value, even if one is declared."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The properties of a checked raster; holds no open file, so that it can be pickled."""

    source: str
    """File name or address, as GDAL opens it."""
    grid: Grid
    """Grid of the pixels that readers return: the raster's own, or one resampled to another resolution."""
    original: Grid
    """The raster's own grid."""
    bands: tuple[int, ...]
    """Numbers, from 1, of the bands in use, in the order in which they are read; never the alpha band."""
    names: tuple[str, ...]
    """Names of the bands in use."""
    all_names: tuple[str, ...]
    """Names of all bands of the raster, in their order."""
    dtype: str
    """Sample type: uint8, uint16, int16 or float32."""
    alpha: int | None
    """Number, from 1, of the alpha band; None if there is none."""
    rules: Rules
    """The rules by which a pixel is valid."""
    identity: str
    """A hash that changes when the pixels may have changed; part of the key by which a resumed map finds its parts."""

    @classmethod
    def open(
        cls,
        source: str,
        *,
        bands: Sequence[int | str] | None = None,
        nodata: Nodata = None,
        res: float | None = None,
    ) -> Scene:
        """Open `source`, check that it can be read to its end, and close it again.

        Args:
            source: File name or address.
            bands: Bands by number from 1 or by name; None: all except alpha.
            nodata: Value that replaces the file's nodata value, see `Nodata`.
            res: Ground resolution in metres per pixel to which readers resample; None keeps the raster's own.

        Raises:
            InputError: the file is missing, no raster or truncated, has another sample type than `checks.DTYPES`, lacks
                a wanted band, or has no valid pixel.
        """
        checks.check_exists(source)
        with reading(source) as dataset:
            scene = _described(source, dataset, bands, nodata)
            checks.check_whole(source, dataset)
        if res is not None:
            scene = scene.resampled(res)
        if not scene.has_valid_pixel():
            raise InputError(f"{source}: has no valid pixel, all of it is nodata", hint=scene.rules.hint())
        return scene

    @property
    def height(self) -> int:
        """Rows of the grid in use."""
        return self.grid.height

    @property
    def width(self) -> int:
        """Columns of the grid in use."""
        return self.grid.width

    @property
    def transform(self) -> Any:
        """Transform of the grid in use."""
        return self.grid.transform

    @property
    def crs(self) -> Any:
        """Coordinate reference system; None if the raster has none."""
        return self.grid.crs

    @property
    def is_resampled(self) -> bool:
        """Whether readers return pixels on another grid than the raster's own."""
        return self.grid.shape != self.original.shape

    @property
    def ground_resolution(self) -> float | None:
        """Metres on the ground per pixel of the grid in use, the geometric mean of both axes; None if not known."""
        size = self.grid.ground_size()
        return math.sqrt(size[0] * size[1]) if size else None

    @contextlib.contextmanager
    def reader(self, shared: SharedBlocks | None = None) -> Iterator[SceneReader]:
        """A reader with a GDAL handle of its own, for one thread; `shared` is a cache for all readers of this scene."""
        with reading(self.source) as dataset:
            raster = RasterReader(self.source, dataset, bands=self.bands, rules=self.rules, shared=shared)
            yield SceneReader(raster, self.grid)

    def on_original(self) -> Scene:
        """The same scene on the raster's own grid, without resampling."""
        return replace(self, grid=self.original)

    def resampled(self, res: float) -> Scene:
        """The same scene with pixels of `res` metres on the ground along both axes, as near as whole pixels allow.

        The grid covers exactly the ground of the original one. A scene whose own pixels have that resolution, up to
        `SAME_RESOLUTION`, keeps its own grid.
        """
        size = self.original.ground_size()
        if size is None:
            raise InputError(
                f"{self.source}: --res {res:g} needs the scene's resolution in metres, but its CRS does not give one",
                hint="set its CRS (gdal_edit.py -a_srs EPSG:…), or leave --res out",
            )
        if all(abs(side / res - 1) <= SAME_RESOLUTION for side in size):
            return replace(self, grid=self.original)
        sides = (self.original.height * size[1] / res, self.original.width * size[0] / res)
        if not max(sides) <= MAX_SIDE:
            raise InputError(
                f"{self.source}: --res {res:g} would resample it to {sides[1]:.3g} × {sides[0]:.3g} pixels, "
                f"a raster has at most {MAX_SIDE} along a side"
            )
        height, width = (max(1, round(side)) for side in sides)
        return replace(self, grid=self.original.scaled(height, width))

    def overview(self, max_size: int) -> Patch:
        """The whole scene, decimated so that its longer side has at most `max_size` pixels."""
        with self.reader() as reader:
            return decimate.overview(reader, max_size)

    def first_valid(self) -> NDArray[Any]:
        """(bands, n) valid pixels of a window that has some; n = 0 if the scene has no valid pixel."""
        with self.reader() as reader:
            patch = decimate.first_valid(reader)
        return patch.pixels[:, patch.valid] if patch else np.empty((len(self.bands), 0), self.dtype)

    def has_valid_pixel(self) -> bool:
        """Whether any pixel of the raster is valid; exact, and fast if one is.

        The last block is tried first, since opening a scene has read it already.
        """
        with self.on_original().reader() as reader:
            last = decimate.last_block(reader.raster)
            return bool(reader.read(last).valid.any()) or decimate.first_valid(reader) is not None

    def with_bands_of(self, wanted: Sequence[str]) -> Scene:
        """The same scene with the bands of a model that calls them `wanted`, in the model's order.

        Raises:
            InputError: the bands cannot be matched, see `match_bands`.
        """
        numbers = bands_of_model(self.source, self.all_names, self.bands, wanted)
        return replace(self, bands=numbers, names=tuple(self.all_names[number - 1] for number in numbers))

    def resolution_gap(self, wanted: float | None) -> str | None:
        """A warning if the ground resolution and that of a model, `wanted` m per pixel, differ by `RESOLUTION_GAP`."""
        resolution = self.ground_resolution
        if wanted is None or resolution is None or 1 / RESOLUTION_GAP <= resolution / wanted <= RESOLUTION_GAP:
            return None
        return f"{resolution:.3g} m per pixel, the model was trained on {wanted:g} m; predict with --res {wanted:g}"

    def remarks(self) -> list[str]:
        """Sentences for the user about a missing georeference."""
        if self.original.has_transform:
            return [] if self.crs else [f"{self.source}: has no CRS; the map will have none either"]
        if self.original.gcps:
            points = f"{self.source}: is georeferenced by {len(self.original.gcps)} ground control points only"
            return [f"{points}; the map gets the same points (for a map in a CRS, run gdalwarp on the scene first)"]
        return [f"{self.source}: has no georeference; the map will have none either"]


def _described(source: str, dataset: Any, bands: Sequence[int | str] | None, nodata: Nodata) -> Scene:
    """The scene of an open dataset, on the raster's own grid."""
    alpha = checks.alpha_band(dataset)
    names = band_names(dataset)
    picked = checks.pick_bands(source, names, alpha, bands)
    dtype = checks.check_dtype(source, dataset, picked)
    if nodata is not None and nodata != "none" and not isinstance(nodata, int | float):
        raise ConfigError(f"--nodata {nodata}: must be a number, nan or none")
    grid = Grid.of(dataset)
    return Scene(
        source=source,
        grid=grid,
        original=grid,
        bands=picked,
        names=tuple(names[band - 1] for band in picked),
        all_names=names,
        dtype=dtype,
        alpha=alpha,
        rules=Rules.of(dataset, alpha=alpha, nodata=nodata),
        identity=identity_of(source, dataset),
    )


def identity_of(source: str, dataset: Any) -> str:
    """A hash that changes when the pixels of an open dataset may have changed.

    It covers every file of which the dataset is made (a VRT's sources, masks and overviews beside it) with name, size
    and modification time; for other sources of GDAL, a hash of the last block. `.aux.xml` files are left out, because
    viewers write their statistics to them at any time and they hold no pixels. Folders are left out, because the
    machines of a cluster may see a shared folder under different paths.
    """
    files = [Path(name) for name in dataset.files if not name.endswith(".aux.xml")]
    facts: list[object] = [dataset.shape, dataset.dtypes, dataset.count, tuple(dataset.transform)]
    if files and all(path.is_file() for path in files):
        facts += [(path.resolve().name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    else:
        on_disk = is_local(source) or _ARCHIVE_ON_DISK.match(source)
        facts += [Path(source).name if on_disk else source, _sampled(dataset)]
        if dataset.driver == "VRT":
            facts += [str(path).partition("?")[0] for path in files if not path.is_file()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _sampled(dataset: Any) -> str:
    """A hash of the raster's last block, and of offset and size of the first, middle and last block of a GeoTIFF.

    `check_whole` reads the last block anyway, so that the hash needs no further request over a network.
    """
    last = checks.last_block(dataset)
    digest = hashlib.sha256(dataset.read(dataset.count, window=last).tobytes())
    height, width = dataset.block_shapes[-1]
    rows, cols = -(-dataset.height // height), -(-dataset.width // width)
    if dataset.driver == "GTiff":
        for row, col in ((0, 0), (rows // 2, cols // 2), (rows - 1, cols - 1)):
            extent = [block_item(dataset, item, row, col, dataset.count) for item in ("OFFSET", "SIZE")]
            digest.update(repr(extent).encode())
    return digest.hexdigest()
