"""Make polygons of a class raster that share their edges exactly."""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, LandClass
from co2s_cli.config.units import show_bytes
from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.errors import ConfigError, InputError, OutputError, ResourceError
from co2s_cli.files import check_output
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons import stream as coverage
from co2s_cli.geo.polygons.class_raster import ClassRaster, confidence_scale
from co2s_cli.geo.polygons.class_strips import copy_to_raster, strips
from co2s_cli.geo.polygons.features import Features, Ground, known_crs
from co2s_cli.geo.polygons.sieve import sieved
from co2s_cli.geo.polygons.simplify import JOINTS_EVERY
from co2s_cli.geo.write import geojson, vector, vector_style
from co2s_cli.geo.write.table import Table
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)

_PIXELS = 2_000_000
"""Of a block, where memory allows: enough that a block's fixed costs do not count."""
_BYTES_PER_PIXEL = 60
"""Memory that a process takes for a block of noisy labels, measured."""


@dataclass(frozen=True, slots=True)
class ClassCount:
    """The polygons of one class."""

    id: int
    name: str
    polygons: int
    area_m2: float
    """NaN where the raster has no CRS."""


@dataclass(frozen=True, slots=True)
class VectorizeResult:
    """What was written."""

    out: Path
    polygons: int
    classes: tuple[ClassCount, ...]
    """Those that occur."""
    style: Path | None
    """None on standard output."""
    sieved: Path | None
    merged_pixels: int = 0
    """Pixels of regions below the minimum area, which have the class of a neighbour now."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """Polygons and square metres by class, added up."""

    polygons: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE, np.int64))
    area_m2: NDArray[np.float64] = field(default_factory=lambda: np.zeros(IGNORE))

    def add(self, some: Features) -> None:
        """Count some more features."""
        np.add.at(self.polygons, some.value, 1)
        np.add.at(self.area_m2, some.value, some.area_m2)

    def result(self, names: tuple[str, ...]) -> tuple[ClassCount, ...]:
        """The classes that occur."""
        return tuple(
            ClassCount(int(value), names[value], int(self.polygons[value]), float(self.area_m2[value]))
            for value in np.flatnonzero(self.polygons)
        )


def run(settings: VectorizeConfig, progress: Progress = SILENT) -> VectorizeResult:
    """Write the polygons of a class raster and, beside a file, their QGIS style.

    Raises:
        Co2sError: what is wrong with the settings, the raster or the output; nothing is left behind then.
    """
    _check_outputs(settings)
    raster = ClassRaster.open(settings.raster)
    task = _task(settings, raster)
    folder = None if settings.out == vector.STDOUT else settings.out.parent
    with tempfile.TemporaryDirectory(prefix=".co2s.", dir=folder) as scratch:
        source, merged = _sieved(settings, raster, task.ground, Path(scratch), progress)
        found = _write(settings, raster, replace(task, source=source), progress)
    progress.close()
    style = _write_style(settings.out, raster, found)
    count = sum(one.polygons for one in found)
    share = merged / (raster.grid.height * raster.grid.width)
    log.info(
        "%s: %d polygons of %d classes; %d pixels (%.2f %%) of regions below %s have joined a neighbour",
        settings.out, count, len(found), merged, 100 * share, settings.min_area,
    )  # fmt: skip
    return VectorizeResult(settings.out, count, found, style, settings.sieved, merged)


def check(settings: VectorizeConfig, grid: Grid) -> None:
    """Refuse what `run` would refuse of the settings for a class raster on `grid`, which need not be there yet.

    Raises:
        Co2sError: what is wrong with the settings.
    """
    vector.check_format(settings.out)
    target = _target(settings, grid)
    least = JOINTS_EVERY if _tolerance(settings, grid) else 1
    _small(settings, grid, Ground.of(grid, target))
    _block_plan(settings, grid, least=min(least, grid.height))


def _write(
    settings: VectorizeConfig, raster: ClassRaster, task: coverage.Task, progress: Progress
) -> tuple[ClassCount, ...]:
    rows, workers = _block_plan(settings, raster.grid, least=min(task.step, task.height))
    spans = coverage.plan(task.height, max(1, rows // task.step) * task.step)
    progress.start("polygons", len(spans), "block")
    counts = _Counts()

    def tables() -> Iterator[Table]:
        for some in coverage.features(task, spans, workers=workers):
            counts.add(some)
            yield _table(some, raster.legend.names, task)
            progress.advance()

    vector.write(settings.out, _schema(settings, raster, task), tables(), sys.stdout.write)
    return counts.result(raster.legend.names)


def _check_outputs(settings: VectorizeConfig) -> None:
    vector.check_format(settings.out)
    if settings.sieved is not None:
        check_output(settings.sieved, overwrite=settings.overwrite)
    if settings.out == vector.STDOUT:
        return
    check_output(settings.out, overwrite=settings.overwrite)
    style = settings.out.with_suffix(".qml")
    if vector_style.is_taken(style) and not settings.overwrite:
        raise OutputError(f"{style}: exists and is not overwritten", hint="add --overwrite, or choose another name")


def _task(settings: VectorizeConfig, raster: ClassRaster) -> coverage.Task:
    ground = Ground.of(raster.grid, _target(settings, raster.grid))
    scale = 1.0 if settings.confidence is None else confidence_scale(settings.confidence, raster.grid)
    return coverage.Task(
        source=raster.source,
        height=raster.grid.height,
        ground=ground,
        wanted=_wanted(settings, raster),
        tolerance=_tolerance(settings, raster.grid),
        confidence=settings.confidence,
        confidence_scale=scale,
        open_bytes=settings.mem_limit // 4,
    )


def _target(settings: VectorizeConfig, grid: Grid) -> Any:
    """The CRS to write where it may be another one than the raster's."""
    is_geojson = settings.out.suffix.lower() in vector.GEOJSON
    wanted = settings.dst_crs or ("EPSG:4326" if is_geojson else None)
    if wanted is None:
        return None
    target = known_crs(wanted)
    if is_geojson and target.to_epsg() != 4326:
        raise ConfigError(f"--dst-crs {wanted}: GeoJSON is in EPSG:4326 always", hint="choose another format")
    if grid.crs is None:
        raise InputError(
            f"{settings.raster}: has no CRS, so that nothing can be written in {wanted}",
            hint="write .gpkg, .fgb or .parquet in its own coordinates, or set its CRS with gdal_edit.py -a_srs",
        )
    return target


def _wanted(settings: VectorizeConfig, raster: ClassRaster) -> NDArray[np.bool_]:
    """(257) True for values that become polygons."""
    wanted = np.zeros(257, bool)
    wanted[raster.legend.ids(settings.classes) if settings.classes else slice(IGNORE)] = True
    wanted[raster.legend.ids(settings.exclude)] = False
    return wanted


def _tolerance(settings: VectorizeConfig, grid: Grid) -> float:
    """Tolerance of simplification in pixels."""
    if settings.simplify.unit == "px" or settings.simplify.value == 0:
        return settings.simplify.value
    side = grid.ground_size()
    if side is None:
        raise _no_metres(f"--simplify {settings.simplify}", settings.raster)
    return settings.simplify.value / math.sqrt(side[0] * side[1])


def _no_metres(flag: str, raster: str) -> ConfigError:
    return ConfigError(
        f"{flag}: {raster} has no CRS, so that its pixels have no metres", hint="give it in pixels, such as 20px"
    )


def _sieved(
    settings: VectorizeConfig, raster: ClassRaster, ground: Ground, scratch: Path, progress: Progress
) -> tuple[str, int]:
    """The raster to make polygons of, and how many of its pixels have another class than those of the one given."""
    small = _small(settings, raster.grid, ground)
    if small <= 1 and settings.sieved is None:
        return raster.source, 0
    progress.start("small regions", raster.grid.height, "row")
    path, merged = scratch / "sieved.tif", 0
    rows_at_once = max(1, min(_PIXELS, settings.mem_limit // (8 * _BYTES_PER_PIXEL)) // raster.grid.width)
    with strips(path, raster.grid) as writer:
        for rows in sieved(raster.source, raster.grid.shape, small, scratch, rows_at_once=rows_at_once):
            writer.write(rows.top, rows.classes)
            merged += rows.merged
            progress.advance(len(rows.classes))
    if settings.sieved is not None:
        copy_to_raster(path, settings.sieved, raster.legend.class_map(writer.values))
    return str(path), merged


def _small(settings: VectorizeConfig, grid: Grid, ground: Ground) -> int:
    """Regions of fewer pixels are too small."""
    wanted = settings.min_area
    if wanted.unit == "px" or wanted.value == 0:
        return math.ceil(wanted.value)
    side = grid.ground_size()
    if ground.unit is None or side is None:
        raise _no_metres(f"--min-area {wanted}", settings.raster)
    # degrees shrink towards the poles: GDAL's sieve counts pixels, so that the middle of the map stands for all of it
    pixel_m2 = side[0] * side[1] if ground.ellipsoid else abs(ground.pixel_area) * ground.unit**2
    return math.ceil(wanted.value / pixel_m2 * (1 - 1e-9))


def _schema(settings: VectorizeConfig, raster: ClassRaster, task: coverage.Task) -> vector.Schema:
    side = (raster.grid.ground_size() or (1.0, 1.0))[0]
    return vector.Schema(
        settings.layer or settings.out.stem,
        task.ground.written_crs,
        _table(Features.none(), raster.legend.names, task),
        geojson.decimals(side / 111_320),
    )


def _table(some: Features, names: tuple[str, ...], task: coverage.Task) -> Table:
    columns: dict[str, NDArray[Any]] = {
        "class_id": some.value,
        "class": np.array(names, dtype=object)[some.value],
        "area_m2": some.area_m2,
        "perimeter_m": some.perimeter_m,
    }
    if task.confidence is not None:
        columns |= {"confidence_mean": some.confidence_mean, "confidence_p10": some.confidence_p10}
    return Table(some.geometry, columns)


def _block_plan(settings: VectorizeConfig, grid: Grid, *, least: int) -> tuple[int, int]:
    """Rows of a block and processes: fewer of both where memory is short, but `least` rows and one process."""
    wanted = settings.workers or os.cpu_count() or 1
    row_bytes = 2 * _BYTES_PER_PIXEL * grid.width
    workers = max(1, min(wanted, settings.mem_limit // (least * row_bytes)))
    if workers < wanted:
        log.info("--workers %d: memory of %s is enough for %d", wanted, show_bytes(settings.mem_limit), workers)
    affordable = settings.mem_limit // (workers * row_bytes)
    if affordable < least and "mem_limit" in settings.model_fields_set:
        raise ResourceError(
            f"--mem-limit {show_bytes(settings.mem_limit)}: {show_bytes(least * row_bytes)} is the least for "
            f"{settings.raster}",
            hint="raise it",
        )
    return int(max(least, min(affordable, _PIXELS // grid.width))), workers


def _write_style(out: Path, raster: ClassRaster, found: tuple[ClassCount, ...]) -> Path | None:
    if out == vector.STDOUT:
        return None
    classes = {one.id: LandClass(one.name, raster.legend.colors[one.id]) for one in found}
    vector_style.write(out.with_suffix(".qml"), classes)
    return out.with_suffix(".qml")
