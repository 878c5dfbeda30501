"""Make polygons of a class raster that share their edges exactly."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, LandClass
from co2s_cli.config.units import show_bytes
from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.errors import ConfigError, InputError, OutputError, ResourceError
from co2s_cli.files import check_output
from co2s_cli.geo import coverage, geojson, vector, vector_style
from co2s_cli.geo.class_raster import ClassRaster, confidence_scale
from co2s_cli.geo.features import Features, Ground, known_crs
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)

_PIXELS = 4_000_000
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


@dataclass(slots=True)
class _Counts:
    """Polygons and square metres by class, added up."""

    polygons: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE, np.int64))
    area_m2: NDArray[np.float64] = field(default_factory=lambda: np.zeros(IGNORE))

    def add(self, some: Features) -> None:
        """Count some more features."""
        self.polygons += np.bincount(some.value, minlength=IGNORE)
        self.area_m2 += np.bincount(some.value, some.area_m2, IGNORE)

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
    schema = _schema(settings, raster, task)
    workers = settings.workers or len(os.sched_getaffinity(0))
    spans = coverage.plan(raster.grid.height, _block_rows(settings, raster, workers))
    progress.start("polygons", len(spans), "block")
    counts = _Counts()
    with vector.writer(settings.out, schema, sys.stdout.write) as writer:
        for some in coverage.features(task, spans, workers=min(workers, len(spans))):
            counts.add(some)
            writer.write(_table(some, raster.legend.names, task))
            progress.advance()
    progress.close()
    found = counts.result(raster.legend.names)
    style = _write_style(settings.out, raster, found)
    log.info("%s: %d polygons of %d classes", settings.out, sum(one.polygons for one in found), len(found))
    return VectorizeResult(settings.out, sum(one.polygons for one in found), found, style)


def _check_outputs(settings: VectorizeConfig) -> None:
    vector.check_format(settings.out)
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
        raster.source, raster.grid.height, ground, _wanted(settings, raster), settings.confidence, scale
    )


def _target(settings: VectorizeConfig, raster: ClassRaster) -> Any:
    """The CRS to write where it may be another one than the raster's."""
    is_geojson = settings.out.suffix.lower() in vector.GEOJSON
    wanted = settings.dst_crs or ("EPSG:4326" if is_geojson else None)
    if wanted is None:
        return None
    if raster.grid.crs is None:
        raise InputError(
            f"{raster.source}: has no CRS, so that nothing can be written in {wanted}",
            hint="write .gpkg, .fgb or .parquet in its own coordinates, or set its CRS with gdal_edit.py -a_srs",
        )
    target = known_crs(wanted)
    if is_geojson and target.to_epsg() != 4326:
        raise ConfigError(f"--dst-crs {wanted}: GeoJSON is in EPSG:4326 always", hint="choose another format")
    return target


def _wanted(settings: VectorizeConfig, raster: ClassRaster) -> NDArray[np.bool_]:
    """(257) True for values that become polygons."""
    wanted = np.zeros(257, bool)
    wanted[raster.legend.ids(settings.classes) if settings.classes else slice(IGNORE)] = True
    wanted[raster.legend.ids(settings.exclude)] = False
    return wanted


def _schema(settings: VectorizeConfig, raster: ClassRaster, task: coverage.Task) -> vector.Schema:
    side = (raster.grid.ground_size() or (1.0, 1.0))[0]
    return vector.Schema(
        settings.layer or settings.out.stem,
        task.ground.written_crs,
        _table(Features.none(), raster.legend.names, task),
        geojson.decimals(side / 111_320),
    )


def _table(some: Features, names: tuple[str, ...], task: coverage.Task) -> vector.Table:
    columns: dict[str, NDArray[Any]] = {
        "class_id": some.value,
        "class": np.array(names, dtype=object)[some.value],
        "area_m2": some.area_m2,
        "perimeter_m": some.perimeter_m,
    }
    if task.confidence is not None:
        columns |= {"confidence_mean": some.confidence_mean, "confidence_p10": some.confidence_p10}
    return vector.Table(some.geometry, columns)


def _block_rows(settings: VectorizeConfig, raster: ClassRaster, workers: int) -> int:
    """Rows of a block: what a good number of pixels makes, fewer where memory is short."""
    width = raster.grid.width
    affordable = settings.mem_limit // (2 * workers * _BYTES_PER_PIXEL * width)
    if affordable < 1:
        needed = 2 * workers * _BYTES_PER_PIXEL * width
        raise ResourceError(
            f"--mem-limit {show_bytes(settings.mem_limit)}: {show_bytes(needed)} is the least for this raster",
            hint="raise it, or use fewer --workers",
        )
    return int(max(1, min(affordable, _PIXELS // width)))


def _write_style(out: Path, raster: ClassRaster, found: tuple[ClassCount, ...]) -> Path | None:
    if out == vector.STDOUT:
        return None
    classes = {one.id: LandClass(one.name, raster.legend.colors[one.id]) for one in found}
    vector_style.write(out.with_suffix(".qml"), classes)
    return out.with_suffix(".qml")
