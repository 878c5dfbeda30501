"""A scene: what a raster is, decided once when it is opened; readers then hand out windows of it."""

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
"""Ground resolutions that differ by less than this share are the same: a UTM pixel of 10 m measures 9.996 to 10.01."""

RESOLUTION_GAP = 1.5
"""Factor between the ground resolutions of scene and model from which on a user is told."""

_ARCHIVE_ON_DISK = re.compile(r"/vsi(zip|tar|gzip|7z|rar|sparse)/+(?!vsi|\w+://)")

Nodata = float | Literal["none"] | None
"""A value that means 'no data'; None = what the file says; 'none' = whatever the file says is wrong."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The facts of a raster that is good to be read; nothing here is open."""

    source: str
    """File name or address, as GDAL opens it."""
    grid: Grid
    """The pixels that readers hand out: the raster's own, or those resampled to another resolution."""
    original: Grid
    """The raster's own pixels."""
    bands: tuple[int, ...]
    """Bands in use, counted from 1, in the order in which they are read; never the alpha band."""
    names: tuple[str, ...]
    """What the raster calls the bands in use."""
    all_names: tuple[str, ...]
    """What the raster calls its bands, in their order."""
    dtype: str
    """Sample type: uint8, uint16, int16 or float32."""
    alpha: int | None
    """The band that is a mask."""
    rules: Rules
    """What makes a pixel valid."""
    identity: str
    """Changes when the pixels may have changed: part of the key of a resume."""

    @classmethod
    def open(
        cls,
        source: str,
        *,
        bands: Sequence[int | str] | None = None,
        nodata: Nodata = None,
        res: float | None = None,
    ) -> Scene:
        """Open `source`, refuse at once what could not be read to its end, close it again.

        `bands` picks bands by number from 1 or by name (None: all but alpha). `res` is the ground resolution, in
        metres per pixel, that readers resample to.

        Raises:
            InputError: missing, no raster, truncated, of a sample type that holds no imagery, without such a band,
                or without one valid pixel.
        """
        checks.check_exists(source)
        with reading(source) as dataset:
            scene = _described(source, dataset, bands, nodata)
            checks.check_whole(source, dataset)
        if res is not None:
            scene = scene.resampled(res)
        if not scene.has_valid_pixel():
            raise InputError(f"{source}: holds no valid pixel, all of it is nodata", hint=scene.rules.hint())
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
        """Coordinate reference system, or None."""
        return self.grid.crs

    @property
    def is_resampled(self) -> bool:
        """Whether readers hand out other pixels than the raster's own."""
        return self.grid.shape != self.original.shape

    @property
    def ground_resolution(self) -> float | None:
        """Metres on the ground per pixel of the grid in use (geometric mean of both axes), where it can be told."""
        size = self.grid.ground_size()
        return math.sqrt(size[0] * size[1]) if size else None

    @contextlib.contextmanager
    def reader(self, shared: SharedBlocks | None = None) -> Iterator[SceneReader]:
        """A reader with a GDAL handle of its own, for one thread; `shared` are decoded blocks of all its readers."""
        with reading(self.source) as dataset:
            raster = RasterReader(self.source, dataset, bands=self.bands, rules=self.rules, shared=shared)
            yield SceneReader(raster, self.grid)

    def on_original(self) -> Scene:
        """The same scene without resampling: its readers tell which pixels of the raster itself are valid."""
        return replace(self, grid=self.original)

    def resampled(self, res: float) -> Scene:
        """The same scene with pixels of `res` metres on the ground along both axes, as near as whole pixels allow.

        The grid covers exactly the ground of the original one; a scene that has that resolution stays as it is.
        """
        size = self.original.ground_size()
        if size is None:
            raise InputError(
                f"{self.source}: --res {res:g} wants a scene whose CRS tells its resolution",
                hint="give it a CRS (gdal_edit.py -a_srs EPSG:…), or leave --res out",
            )
        if all(abs(side / res - 1) <= SAME_RESOLUTION for side in size):
            return replace(self, grid=self.original)
        sides = (self.original.height * size[1] / res, self.original.width * size[0] / res)
        if not max(sides) <= MAX_SIDE:
            raise InputError(
                f"{self.source}: --res {res:g} makes {sides[1]:.3g} × {sides[0]:.3g} pixels of it, "
                f"a raster has at most {MAX_SIDE} along a side"
            )
        height, width = (max(1, round(side)) for side in sides)
        return replace(self, grid=self.original.scaled(height, width))

    def overview(self, max_size: int) -> Patch:
        """The whole scene, decimated so that its longer side has at most `max_size` pixels; from overviews if any."""
        with self.reader() as reader:
            return decimate.overview(reader, max_size)

    def first_valid(self) -> NDArray[Any]:
        """Valid pixels (bands, n) of the first window that has some."""
        with self.reader() as reader:
            patch = decimate.first_valid(reader)
        return patch.pixels[:, patch.valid] if patch else np.empty((len(self.bands), 0), self.dtype)

    def has_valid_pixel(self) -> bool:
        """Whether any pixel of the raster is valid; exact, and quick where one is.

        The last block is looked at first: when a scene is opened it has been read already.
        """
        with self.on_original().reader() as reader:
            last = decimate.last_block(reader.raster)
            return bool(reader.read(last).valid.any()) or decimate.first_valid(reader) is not None

    def with_bands_of(self, wanted: Sequence[str]) -> Scene:
        """The same scene with the bands that a model calls `wanted`, in its order.

        Raises:
            InputError: a band cannot be told by name, and the bands in use are not as many unnamed ones.
        """
        numbers = bands_of_model(self.source, self.all_names, self.bands, wanted)
        return replace(self, bands=numbers, names=tuple(self.all_names[number - 1] for number in numbers))

    def resolution_gap(self, wanted: float | None) -> str | None:
        """One sentence where the ground resolution is further off `wanted` (metres per pixel) than a model bears."""
        found = self.ground_resolution
        if wanted is None or found is None or 1 / RESOLUTION_GAP <= found / wanted <= RESOLUTION_GAP:
            return None
        return f"{found:.3g} m per pixel, the model was trained on {wanted:g} m; predict with --res {wanted:g}"

    def remarks(self) -> list[str]:
        """What a user should know about the georeference, one sentence each."""
        if self.original.has_transform:
            return [] if self.crs else [f"{self.source}: has no CRS; the map will have none either"]
        if self.original.gcps:
            points = f"{self.source}: is placed by {len(self.original.gcps)} ground control points only"
            return [f"{points}; the map gets the same (for a map in a CRS, run gdalwarp on the scene first)"]
        return [f"{self.source}: has no georeference; the map will have none either"]


def _described(source: str, dataset: Any, bands: Sequence[int | str] | None, nodata: Nodata) -> Scene:
    alpha = checks.alpha_band(dataset)
    names = band_names(dataset)
    picked = checks.pick_bands(source, names, alpha, bands)
    dtype = checks.check_dtype(source, dataset, picked)
    if nodata is not None and nodata != "none" and not isinstance(nodata, int | float):
        raise ConfigError(f"--nodata {nodata}: wants a number, nan or none")
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
    """A stable string that changes when the pixels of an open dataset may have changed.

    It names every file that the dataset is made of (a VRT's sources, masks and overviews beside it) with size and
    time of change; where GDAL reads from anywhere else, a hash of the last block stands for that. Viewers write their
    statistics to `.aux.xml` when they like: such a file holds no pixels and does not count. Folders do not count
    either: machines of a cluster may see a shared one under different paths.
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
    """A hash of the raster's last block, and of where a GeoTIFF keeps its first, middle and last one.

    `check_whole` reads that block anyway, so that no request is made over a network for this alone.
    """
    last = checks.last_block(dataset)
    digest = hashlib.sha256(dataset.read(dataset.count, window=last).tobytes())
    height, width = dataset.block_shapes[-1]
    rows, cols = -(-dataset.height // height), -(-dataset.width // width)
    if dataset.driver == "GTiff":
        for row, col in ((0, 0), (rows // 2, cols // 2), (rows - 1, cols - 1)):
            at = [block_item(dataset, item, row, col, dataset.count) for item in ("OFFSET", "SIZE")]
            digest.update(repr(at).encode())
    return digest.hexdigest()
