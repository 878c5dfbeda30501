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
from co2s_cli.geo.polygons import stream as coverage
from co2s_cli.geo.polygons.amounts import RowAreas
from co2s_cli.geo.polygons.class_raster import ClassRaster, confidence_scale
from co2s_cli.geo.polygons.class_strips import copy_to_raster, strips
from co2s_cli.geo.polygons.features import Features, Ground, known_crs
from co2s_cli.geo.polygons.sieving import SieveTask, sieved
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
        source = _sieved(settings, raster, task.ground, Path(scratch) / "sieved.tif", progress)
        found = _write(settings, raster, replace(task, source=source), progress)
    progress.close()
    style = _write_style(settings.out, raster, found)
    count = sum(one.polygons for one in found)
    log.info("%s: %d polygons of %d classes", settings.out, count, len(found))
    return VectorizeResult(settings.out, count, found, style, settings.sieved)


def _write(
    settings: VectorizeConfig, raster: ClassRaster, task: coverage.Task, progress: Progress
) -> tuple[ClassCount, ...]:
    rows = _block_rows(settings, raster, least=min(task.step, task.height))
    spans = coverage.plan(task.height, max(1, rows // task.step) * task.step)
    progress.start("polygons", len(spans), "block")
    counts = _Counts()

    def tables() -> Iterator[Table]:
        for some in coverage.features(task, spans, workers=_workers(settings)):
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
    ground = Ground.of(raster.grid, _target(settings, raster))
    scale = 1.0 if settings.confidence is None else confidence_scale(settings.confidence, raster.grid)
    return coverage.Task(
        source=raster.source,
        height=raster.grid.height,
        ground=ground,
        wanted=_wanted(settings, raster),
        tolerance=_tolerance(settings, raster),
        confidence=settings.confidence,
        confidence_scale=scale,
        open_bytes=settings.mem_limit // 4,
    )


def _target(settings: VectorizeConfig, raster: ClassRaster) -> Any:
    """The CRS to write where it may be another one than the raster's."""
    is_geojson = settings.out.suffix.lower() in vector.GEOJSON
    wanted = settings.dst_crs or ("EPSG:4326" if is_geojson else None)
    if wanted is None:
        return None
    target = known_crs(wanted)
    if is_geojson and target.to_epsg() != 4326:
        raise ConfigError(f"--dst-crs {wanted}: GeoJSON is in EPSG:4326 always", hint="choose another format")
    if raster.grid.crs is None:
        raise InputError(
            f"{raster.source}: has no CRS, so that nothing can be written in {wanted}",
            hint="write .gpkg, .fgb or .parquet in its own coordinates, or set its CRS with gdal_edit.py -a_srs",
        )
    return target


def _wanted(settings: VectorizeConfig, raster: ClassRaster) -> NDArray[np.bool_]:
    """(257) True for values that become polygons."""
    wanted = np.zeros(257, bool)
    wanted[raster.legend.ids(settings.classes) if settings.classes else slice(IGNORE)] = True
    wanted[raster.legend.ids(settings.exclude)] = False
    return wanted


def _tolerance(settings: VectorizeConfig, raster: ClassRaster) -> float:
    """Tolerance of simplification in pixels."""
    if settings.simplify.unit == "px" or settings.simplify.value == 0:
        return settings.simplify.value
    side = raster.grid.ground_size()
    if side is None:
        raise _no_metres(f"--simplify {settings.simplify}", raster)
    return settings.simplify.value / math.sqrt(side[0] * side[1])


def _no_metres(flag: str, raster: ClassRaster) -> ConfigError:
    return ConfigError(
        f"{flag}: {raster.source} has no CRS, so that its pixels have no metres", hint="give it in pixels, such as 20px"
    )


def _sieved(settings: VectorizeConfig, raster: ClassRaster, ground: Ground, path: Path, progress: Progress) -> str:
    """The raster to make polygons of: the one given where no region can be too small, else a sieved copy."""
    areas, small = _small(settings, raster, ground)
    if not areas.has_smaller(small) and settings.sieved is None:
        return raster.source
    affordable = _block_rows(settings, raster, least=1)
    task = SieveTask(raster.source, raster.grid.height, areas.limits(small), areas.of_row, 8 * affordable)
    rows = max(1, affordable // 2)
    progress.start("small regions", raster.grid.height, "row")
    with strips(path, raster.grid) as writer:
        for row, classes in sieved(task, rows, workers=_workers(settings)):
            writer.write(row, classes)
            progress.advance(len(classes))
    if settings.sieved is not None:
        copy_to_raster(path, settings.sieved, raster.legend.class_map(writer.values))
    return str(path)


def _small(settings: VectorizeConfig, raster: ClassRaster, ground: Ground) -> tuple[RowAreas, float]:
    """Areas of pixels, and what is too small in the same unit."""
    wanted = settings.min_area
    if wanted.unit == "px" or wanted.value == 0:
        return RowAreas.pixels(raster.grid.height), wanted.value
    if ground.unit is None:
        if "min_area" in settings.model_fields_set:
            raise _no_metres(f"--min-area {wanted}", raster)
        log.info("%s: has no CRS, so that no minimum area is kept; give one in pixels: --min-area 20px", raster.source)
        return RowAreas.pixels(raster.grid.height), 0
    areas = RowAreas.on(ground, raster.grid)
    return areas, wanted.value * areas.per_m2


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


def _workers(settings: VectorizeConfig) -> int:
    return settings.workers or os.cpu_count() or 1


def _block_rows(settings: VectorizeConfig, raster: ClassRaster, *, least: int) -> int:
    """Rows of a block: what a good number of pixels makes, fewer where memory is short, but `least`."""
    row_bytes = 2 * _workers(settings) * _BYTES_PER_PIXEL * raster.grid.width
    affordable = settings.mem_limit // row_bytes
    if affordable < least:
        raise ResourceError(
            f"--mem-limit {show_bytes(settings.mem_limit)}: {show_bytes(least * row_bytes)} is the least for "
            f"{raster.source} with {_workers(settings)} workers",
            hint="raise it, or use fewer --workers",
        )
    return int(max(least, min(affordable, _PIXELS // raster.grid.width)))


def _write_style(out: Path, raster: ClassRaster, found: tuple[ClassCount, ...]) -> Path | None:
    if out == vector.STDOUT:
        return None
    classes = {one.id: LandClass(one.name, raster.legend.colors[one.id]) for one in found}
    vector_style.write(out.with_suffix(".qml"), classes)
    return out.with_suffix(".qml")
