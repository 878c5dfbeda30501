"""Polygons of a class raster; neighbours share their edges exactly."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, LandClass
from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.files import check_output, temporary_folder
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons import stream
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.polygons.features import Features
from co2s_cli.geo.polygons.plan import VectorPlan, block_shape, check_plan, min_pixels, plan_polygons
from co2s_cli.geo.polygons.sieve import sieve_to_file
from co2s_cli.geo.write import styles, vector
from co2s_cli.geo.write.raster import copy_class_raster
from co2s_cli.jobs.paths import check_outputs
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Number and area of the polygons of one class."""

    id: int
    name: str
    polygons: int
    area_m2: float
    """Total area; NaN if the raster has no CRS."""


@dataclass(frozen=True, slots=True)
class VectorizeResult:
    """Files and figures of the polygons."""

    out: Path
    polygons: int
    classes: tuple[ClassCount, ...]
    """The classes that occur."""
    style: Path | None
    """Path of the QGIS style; None if the polygons go to standard output."""
    sieved: Path | None
    merged_pixels: int = 0
    """Pixels of regions below the minimum area, which were given the class of a neighbouring region."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """Sums of polygons and square metres by class id."""

    polygons: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE, np.int64))
    area_m2: NDArray[np.float64] = field(default_factory=lambda: np.zeros(IGNORE))

    def add(self, features: Features) -> None:
        """Add features."""
        np.add.at(self.polygons, features.value, 1)
        np.add.at(self.area_m2, features.value, features.area_m2)

    def result(self, names: tuple[str, ...]) -> tuple[ClassCount, ...]:
        """The classes that occur."""
        return tuple(
            ClassCount(int(value), names[value], int(self.polygons[value]), float(self.area_m2[value]))
            for value in np.flatnonzero(self.polygons)
        )


def run(settings: VectorizeConfig, progress: Progress = SILENT) -> VectorizeResult:
    """Write the polygons of a class raster and, if they go to a file, their QGIS style.

    Raises:
        Co2sError: what is wrong with the settings, the raster or the output; then no file is left behind.
    """
    check_outputs(settings)
    _check_existing(settings)
    raster = ClassRaster.open(settings.raster)
    plan = plan_polygons(settings, raster, lonlat=vector.format_of(settings.out).lonlat)
    on_stdout = settings.out == vector.STDOUT
    with temporary_folder(Path(tempfile.gettempdir()) / "out" if on_stdout else settings.out) as scratch:
        source, merged_pixels = _sieve(settings, raster, plan, scratch, progress)
        class_counts = _write(settings, raster, replace(plan, source=source), progress)
    progress.close()
    style = _write_style(settings, raster, class_counts)
    polygons = sum(count.polygons for count in class_counts)
    share = merged_pixels / (raster.grid.height * raster.grid.width)
    log.info(
        "%s: %d polygons of %d classes; %d pixels (%.2f %%) of regions below %s have joined a neighbour",
        settings.out, polygons, len(class_counts), merged_pixels, 100 * share, settings.min_area,
    )  # fmt: skip
    return VectorizeResult(settings.out, polygons, class_counts, style, settings.sieved, merged_pixels)


def check(settings: VectorizeConfig, grid: Grid) -> None:
    """Refuse settings that `run` would refuse for a class raster on `grid`; the raster need not exist yet.

    Raises:
        Co2sError: what is wrong with the settings.
    """
    check_plan(settings, grid, lonlat=vector.format_of(settings.out).lonlat)


def _check_existing(settings: VectorizeConfig) -> None:
    vector.format_of(settings.out)
    if settings.sieved is not None:
        check_output(settings.sieved, overwrite=settings.overwrite)
    if settings.out == vector.STDOUT:
        return
    if _partitioned(settings):
        vector.check_partitioned(settings.out, overwrite=settings.overwrite)
    else:
        check_output(settings.out, overwrite=settings.overwrite)


def _partitioned(settings: VectorizeConfig) -> bool:
    return settings.partitioned or (settings.out.suffix.lower() == ".parquet" and settings.out.is_dir())


def _sieve(
    settings: VectorizeConfig, raster: ClassRaster, plan: VectorPlan, scratch: Path, progress: Progress
) -> tuple[str, int]:
    """The raster without regions below the minimum area, and the number of pixels whose class was changed for that."""
    smallest = min_pixels(settings, raster.grid, plan.ground)
    if smallest <= 1 and settings.sieved is None:
        return raster.source, 0
    progress.start("small regions", raster.grid.height, "row")
    sieved = sieve_to_file(raster, smallest, scratch, advance=progress.advance)
    if settings.sieved is not None:
        copy_class_raster(sieved.path, settings.sieved, raster.grid, raster.legend.class_map([sieved.highest]))
    return str(sieved.path), sieved.merged_pixels


def _write(
    settings: VectorizeConfig, raster: ClassRaster, plan: VectorPlan, progress: Progress
) -> tuple[ClassCount, ...]:
    rows, columns, workers = block_shape(settings, raster.grid, least_rows=plan.least_rows)
    rows = max(1, rows // plan.row_step) * plan.row_step
    blocks = stream.blocks_of(plan.height, plan.width, rows=rows, columns=columns)
    progress.start("polygons", len({block.row for block in blocks}), "band")
    counts = _Counts()

    def tables() -> Iterator[vector.Table]:
        for features in stream.features(plan, blocks, workers=workers):
            counts.add(features)
            yield _table(features, raster.legend.names, plan)
            progress.advance()

    write = vector.write_partitioned if _partitioned(settings) else vector.write
    write(settings.out, _schema(settings, raster, plan), tables())
    return counts.result(raster.legend.names)


def _schema(settings: VectorizeConfig, raster: ClassRaster, plan: VectorPlan) -> vector.Schema:
    pixel_m = (raster.grid.ground_size() or (1.0, 1.0))[0]
    return vector.Schema(
        settings.layer or settings.out.stem,
        plan.ground.written_crs,
        _table(Features.none(), raster.legend.names, plan),
        vector.decimals(pixel_m / 111_320),
    )


def _table(features: Features, names: tuple[str, ...], plan: VectorPlan) -> vector.Table:
    columns: dict[str, NDArray[Any]] = {
        "class_id": features.value,
        "class": np.array(names, dtype=object)[features.value],
        "area_m2": features.area_m2,
        "perimeter_m": features.perimeter_m,
    }
    if plan.confidence is not None:
        columns |= {"confidence_mean": features.confidence_mean, "confidence_p10": features.confidence_p10}
    return vector.Table(features.geometry, columns)


def _write_style(settings: VectorizeConfig, raster: ClassRaster, class_counts: tuple[ClassCount, ...]) -> Path | None:
    """Write the QGIS style next to the polygons; an existing polygon style stays without --overwrite.

    It may belong to polygons in another format, or have been edited by the user.
    """
    if settings.out == vector.STDOUT:
        return None
    path = settings.out.with_suffix(".qml")
    if styles.holds_polygon_style(path) and not settings.overwrite:
        log.info("%s: exists and is kept; --overwrite replaces it", path)
        return path
    classes = {count.id: LandClass(count.name, raster.legend.colors[count.id]) for count in class_counts}
    styles.write_polygon_style(path, classes)
    return path
