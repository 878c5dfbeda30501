"""Plan how a class raster becomes polygons: minimum area, tolerance, classes, CRS, size of blocks, processes."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from co2s_cli.classes import IGNORE
from co2s_cli.config.units import show_bytes
from co2s_cli.config.vectorize import Amount, VectorizeConfig
from co2s_cli.errors import ConfigError, InputError, ResourceError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.class_raster import ClassRaster, confidence_scale
from co2s_cli.geo.polygons.features import GroundTransform, parsed_crs
from co2s_cli.geo.polygons.simplify import JOINT_COLUMNS, JOINTS_EVERY
from co2s_cli.resources import available, cores

log = logging.getLogger(__name__)

BLOCK_PIXELS = 2_000_000
"""Pixels of a block where memory allows: enough that the fixed costs of a block do not matter."""
BYTES_PER_PIXEL = 60
"""Memory of a process for each pixel of a block of noisy labels, measured."""


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """What the work on every block needs; plain data, so that it can be pickled."""

    source: str
    """Path of the class raster."""
    height: int
    width: int
    ground: GroundTransform
    wanted: NDArray[np.bool_]
    """(257) True for values that become polygons."""
    tolerance: float
    """Tolerance of simplified borders in pixels; 0 leaves borders as they are."""
    confidence: str | None
    """Path of the confidence raster."""
    confidence_scale: float
    """Factor from bytes of the confidence raster, as `ByteRasterReader` reads them, to confidences from 0 to 1."""
    open_bytes: int
    """Memory limit of the regions that are still open at the lower edge of a band of blocks."""

    @property
    def row_step(self) -> int:
        """Number of which the rows of a block are a multiple."""
        return JOINTS_EVERY if self.tolerance else 1

    @property
    def least_rows(self) -> int:
        """Least number of rows of a block."""
        return min(self.row_step, self.height)


def plan_polygons(settings: VectorizeConfig, raster: ClassRaster, *, lonlat: bool) -> VectorPlan:
    """The plan for `raster`; `lonlat` says that the format of the output allows EPSG:4326 only.

    Raises:
        Co2sError: the settings do not fit the raster or the confidence raster.
    """
    grid = raster.grid
    scale = 1.0 if settings.confidence is None else confidence_scale(settings.confidence, grid)
    return VectorPlan(
        source=raster.source,
        height=grid.height,
        width=grid.width,
        ground=GroundTransform.of(grid, _target_crs(settings, grid, lonlat=lonlat)),
        wanted=_wanted_values(settings, raster),
        tolerance=_tolerance(settings, grid),
        confidence=settings.confidence,
        confidence_scale=scale,
        open_bytes=_open_bytes(settings),
    )


def check_plan(settings: VectorizeConfig, grid: Grid, *, lonlat: bool) -> None:
    """Refuse settings that `plan_polygons` and `block_shape` would refuse for a class raster on `grid`.

    The raster need not exist yet.

    Raises:
        Co2sError: what is wrong with the settings.
    """
    ground = GroundTransform.of(grid, _target_crs(settings, grid, lonlat=lonlat))
    min_pixels(settings, grid, ground)
    least_rows = JOINTS_EVERY if _tolerance(settings, grid) else 1
    block_shape(settings, grid, least_rows=min(least_rows, grid.height))


def min_pixels(settings: VectorizeConfig, grid: Grid, ground: GroundTransform) -> int:
    """Least size of a region in pixels; smaller regions join a neighbour.

    Raises:
        ConfigError: --min-area is in square metres and the raster has no CRS.
    """
    min_area = settings.min_area
    if min_area.unit == "px" or min_area.value == 0:
        return math.ceil(min_area.value)
    pixel_size = grid.ground_size()
    if ground.unit is None or pixel_size is None:
        raise _no_metres(f"--min-area {min_area}", settings.raster)
    # a square degree shrinks towards the poles, but GDAL's sieve counts pixels: the middle of the map stands for all
    pixel_m2 = pixel_size[0] * pixel_size[1] if ground.ellipsoid else abs(ground.pixel_area) * ground.unit**2
    return math.ceil(min_area.value / pixel_m2 * (1 - 1e-9))


def block_shape(settings: VectorizeConfig, grid: Grid, *, least_rows: int) -> tuple[int, int, int]:
    """Rows and columns of a block, and number of processes.

    Short memory first lowers the number of processes, to one at least, then the rows, to `least_rows` at least. The
    columns are those of the raster, at most `JOINT_COLUMNS`, whatever the memory: where borders are cut must not depend
    on it.

    Raises:
        ResourceError: --mem-limit is too small for one process and `least_rows`.
    """
    wanted_workers = settings.workers or cores(1)
    columns = min(grid.width, JOINT_COLUMNS)
    row_bytes = 2 * BYTES_PER_PIXEL * columns
    workers = max(1, min(wanted_workers, settings.mem_limit // (least_rows * row_bytes)))
    if workers < wanted_workers:
        log.info(
            "--workers %d: the memory limit of %s is enough for %d only",
            wanted_workers,
            show_bytes(settings.mem_limit),
            workers,
        )
    affordable_rows = settings.mem_limit // (workers * row_bytes)
    if affordable_rows < least_rows and settings.chose("mem_limit"):
        raise ResourceError(
            f"--mem-limit {show_bytes(settings.mem_limit)}: {settings.raster} needs at least "
            f"{show_bytes(least_rows * row_bytes)}",
            hint="raise --mem-limit",
        )
    return int(max(least_rows, min(affordable_rows, BLOCK_PIXELS // columns))), columns, workers


def _open_bytes(settings: VectorizeConfig) -> int:
    """Memory for open regions: a quarter of the limit, or of the free memory if that is more and no limit is given."""
    limit = settings.mem_limit
    return (limit if settings.chose("mem_limit") else max(limit, available())) // 4


def _target_crs(settings: VectorizeConfig, grid: Grid, *, lonlat: bool) -> CRS | None:
    """CRS of the geometries to write; None for that of the raster."""
    wanted = settings.dst_crs or ("EPSG:4326" if lonlat else None)
    if wanted is None:
        return None
    target = parsed_crs(wanted)
    if lonlat and target.to_epsg() != 4326:
        raise ConfigError(f"--dst-crs {wanted}: GeoJSON is in EPSG:4326 always", hint="choose another format")
    if grid.crs is None:
        raise InputError(
            f"{settings.raster}: has no CRS, so that its polygons cannot be written in {wanted}",
            hint="write .gpkg, .fgb or .parquet in its own coordinates, or set its CRS with gdal_edit.py -a_srs",
        )
    return target


def _wanted_values(settings: VectorizeConfig, raster: ClassRaster) -> NDArray[np.bool_]:
    """(257) True for values that become polygons."""
    wanted = np.zeros(257, bool)
    wanted[raster.legend.ids(settings.classes) if settings.classes else slice(IGNORE)] = True
    wanted[raster.legend.ids(settings.exclude)] = False
    return wanted


def _tolerance(settings: VectorizeConfig, grid: Grid) -> float:
    """Tolerance of simplified borders in pixels; lengths in metres are divided by the mean side of a pixel."""
    length: Amount = settings.simplify
    if length.unit == "px" or length.value == 0:
        return length.value
    pixel_size = grid.ground_size()
    if pixel_size is None:
        raise _no_metres(f"--simplify {length}", settings.raster)
    return length.value / math.sqrt(pixel_size[0] * pixel_size[1])


def _no_metres(flag: str, raster: str) -> ConfigError:
    return ConfigError(
        f"{flag}: {raster} has no CRS, so that the size of its pixels in metres is unknown",
        hint="give the value in pixels, such as 20px",
    )
