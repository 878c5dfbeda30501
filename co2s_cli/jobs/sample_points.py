"""Draw a stratified random sample of points from a map, for a person to label."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from co2s_cli.config.sample_points import SamplePointsConfig
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.files import check_output
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.labels.points import MAP_CLASS
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.write import vector
from co2s_cli.geo.write.points import write_points
from co2s_cli.jobs.areas import classes_of
from co2s_cli.jobs.paths import check_outputs
from co2s_cli.progress import SILENT, Progress
from co2s_cli.scoring.strata import ClassTotals, StratifiedDraw, strips

log = logging.getLogger(__name__)


_READABLE = (".gpkg", ".fgb", ".geojson")
"""Formats in which points can be edited and read back."""


@dataclass(frozen=True, slots=True)
class SampledClass:
    """One class of the map, and its points in the sample."""

    id: int
    name: str
    map_pixels: int
    points: int


@dataclass(frozen=True, slots=True)
class SamplePointsResult:
    """The drawn sample and its files."""

    out: Path
    style: Path
    points: int
    classes: tuple[SampledClass, ...]


def run(settings: SamplePointsConfig, progress: Progress = SILENT) -> SamplePointsResult:
    """Draw the points and write them with their style.

    Raises:
        Co2sError: what is wrong with the settings, the map or the output.
    """
    if settings.out.suffix.lower() not in _READABLE:
        vector.format_of(settings.out)
        raise ConfigError(f"{settings.out}: points are written to be edited, wanted is one of {' '.join(_READABLE)}")
    check_outputs(settings)
    for path in (settings.out, settings.out.with_suffix(".qml")):
        check_output(path, overwrite=settings.overwrite)
    raster = ClassRaster.open(settings.source)
    row_areas = raster.grid.pixel_areas()
    totals, draw = ClassTotals.empty(row_areas), StratifiedDraw(settings.per_class, settings.seed, row_areas)
    with environment(), raster.reader() as reader:
        for top, labels in strips(reader, raster.grid.shape, progress):
            totals.add(top, labels)
            draw.add(top, labels)
    progress.close()
    if not totals.occurring:
        raise InputError(f"{settings.source}: has no class anywhere, all of it is nodata")
    places = draw.sample()  # (n, 3): class id, row, column
    counts = np.bincount(places[:, 0], minlength=256)
    class_map = classes_of(raster, totals)
    style = write_points(settings.out, places, grid=raster.grid, classes=class_map, map_class_field=MAP_CLASS)
    classes = tuple(
        SampledClass(class_id, class_map.names[class_id], int(totals.pixels[class_id]), int(counts[class_id]))
        for class_id in totals.occurring
    )
    _log_summary(settings, classes)
    return SamplePointsResult(settings.out, style, len(places), classes)


def _log_summary(settings: SamplePointsConfig, classes: tuple[SampledClass, ...]) -> None:
    for item in classes:
        if item.points < settings.per_class:
            log.warning("%s: covers %d pixels, every one of them is in the sample", item.name, item.map_pixels)
    log.info(
        "%d points in %d classes: write the true class of each into `class`, without looking at the map; then "
        "co2s evaluate %s %s --areas",
        sum(item.points for item in classes), len(classes), settings.source, settings.out,
    )  # fmt: skip
