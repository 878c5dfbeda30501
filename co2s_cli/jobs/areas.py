"""Areas and accuracies of a map, with confidence intervals, from a stratified random sample of points."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.config.data import read_data
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.labels.points import LabelledPoints, read_points
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.jobs.paths import check_report
from co2s_cli.progress import SILENT, Progress
from co2s_cli.scoring import area_verdict
from co2s_cli.scoring.area_verdict import AreaVerdict
from co2s_cli.scoring.report import check_folder
from co2s_cli.scoring.strata import ClassTotals, strips
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AreasResult:
    """Estimates from a sample of points on a map."""

    source: str
    """The map."""
    sample: str
    verdict: AreaVerdict
    remarks: tuple[str, ...]
    """Remarks on the sample for the user, one sentence each."""
    out: Path | None
    """Folder of the report."""


def run(settings: EvaluateConfig, progress: Progress = SILENT) -> AreasResult:
    """Compare the points with the map, estimate areas and accuracies and, with --out, write a report.

    Raises:
        Co2sError: what is wrong with the settings, the map, the points or the folder.
    """
    check_report(settings)
    if settings.out is not None:
        check_folder(settings.out, overwrite=settings.overwrite)
    raster = ClassRaster.open(settings.source)
    path = Path(str(settings.truth))
    with environment():
        totals = _totals(raster, progress)
        classes = _classes(settings, raster, totals)
        points = read_points(path, raster.grid, classes, attribute=settings.attribute, values=settings.values)
        map_ids = _classes_at(raster, points)
    _check_drawn_from_map(settings, classes, points, map_ids)
    used = (map_ids != IGNORE) & (points.class_ids != IGNORE)
    counts = np.zeros((IGNORE, IGNORE), np.int64)  # class on the map × true class
    np.add.at(counts, (map_ids[used], points.class_ids[used]), 1)
    _check_strata(settings, classes, counts, totals)
    ids = sorted({*totals.occurring, *np.flatnonzero(counts.sum(axis=0)).tolist()})
    names = {class_id: classes.names[class_id] for class_id in ids}
    verdict = AreaVerdict.of(counts, totals.ground, names, in_metres=totals.row_areas is not None)
    remarks = _remarks(points, map_ids, counts)
    for remark in remarks:
        log.warning("%s", remark)
    if settings.out is not None:
        facts = {"map": settings.source, "sample": str(path), "remarks": remarks}
        area_verdict.write(settings.out, verdict, facts)
    return AreasResult(settings.source, str(path), verdict, remarks, settings.out)


def _classes(settings: EvaluateConfig, raster: ClassRaster, totals: ClassTotals) -> ClassMap:
    """The classes of the map, by its own names or else those of --classes, and further classes of --classes."""
    map_classes = classes_of(raster, totals)
    if settings.classes is None:
        return map_classes
    listed = read_data(settings.classes).class_map
    if raster.legend.named_count:
        return map_classes.joined(listed)[0]
    if len(listed) < len(map_classes):
        raise InputError(
            f"{settings.source}: holds value {len(map_classes) - 1}, {settings.classes} names 0 to {len(listed) - 1}",
            hint="name all classes of the map in the order of its ids",
        )
    return listed


def classes_of(raster: ClassRaster, totals: ClassTotals) -> ClassMap:
    """All classes that a map names or that occur in it."""
    return raster.legend.class_map([*range(raster.legend.named_count), *totals.occurring])


def _totals(raster: ClassRaster, progress: Progress) -> ClassTotals:
    totals = ClassTotals.empty(raster.grid.pixel_areas())
    with raster.reader() as reader:
        for top, labels in strips(reader, raster.grid.shape, progress):
            totals.add(top, labels)
    progress.close()
    return totals


def _classes_at(raster: ClassRaster, points: LabelledPoints) -> NDArray[np.uint8]:
    """Class ids of the map at the points, (n,); `IGNORE` outside the map and on nodata."""
    class_ids = np.full(len(points.rows), IGNORE, np.uint8)
    inside = np.flatnonzero(points.inside(raster.grid.shape))
    order = inside[np.lexsort((points.cols[inside], points.rows[inside]))]  # in the order of the file's blocks
    with raster.reader() as reader:
        for index in order:
            class_ids[index] = reader.read(Window(int(points.rows[index]), int(points.cols[index]), 1, 1))[0, 0]
    return class_ids


def _check_drawn_from_map(
    settings: EvaluateConfig, classes: ClassMap, points: LabelledPoints, map_ids: NDArray[np.uint8]
) -> None:
    """Refuse a sample that was drawn from another map: its strata are not this map's classes."""
    for index, name in enumerate(points.class_when_drawn or ()):
        map_name = "no class" if map_ids[index] == IGNORE else classes.names[map_ids[index]]
        if name is not None and name != map_name:
            raise InputError(
                f"{settings.truth}: feature {index + 1} was drawn where a map has {name}, {settings.source} has "
                f"{map_name} there: the sample was drawn from another map",
                hint="evaluate the map that it was drawn from, or draw one from this map with co2s sample-points",
            )


def _check_strata(settings: EvaluateConfig, classes: ClassMap, counts: NDArray[np.int64], totals: ClassTotals) -> None:
    """Refuse a sample without a labelled point in some class of the map."""
    without = [classes.names[value] for value in totals.occurring if not counts[value].any()]
    if without:
        raise InputError(
            f"{settings.truth}: no point with a class lies where the map has {few_of(without)}",
            hint=f"write a class into `{settings.attribute}` of more points, or draw more with co2s sample-points",
        )


def _remarks(points: LabelledPoints, map_ids: NDArray[np.uint8], counts: NDArray[np.int64]) -> tuple[str, ...]:
    total, off_map = len(map_ids), int((map_ids == IGNORE).sum())
    unlabelled = int(((points.class_ids == IGNORE) & (map_ids != IGNORE)).sum())
    remarks = []
    if off_map:
        remarks.append(f"{off_map} of {total} points lie where the map has no class: left out")
    if unlabelled:
        remarks.append(
            f"{unlabelled} of {total} points have no class yet: left out; the others must be a random part of all"
        )
    if points.class_when_drawn is None:
        remarks.append(
            "the points do not say from which map they were drawn: taken as a random sample within this map's classes"
        )
    if (counts.sum(axis=1) == 1).any():
        remarks.append("a class of the map has a single point: no interval can be computed")
    return tuple(remarks)
