"""Truth for a map: labels on any grid, or polygons, brought to the map's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.warp import transform as warp_points

from co2s_cli.classes import ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import FAILURES, first_line, reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.labels import Labels, Meaning, PolygonLabels, crs_of_both, label_grid, labels_onto
from co2s_cli.geo.legend import Legend
from co2s_cli.geo.read.features import is_vector
from co2s_cli.tiling import Window

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of a grid."""

_EDGE_POINTS = 21
"""Places along each edge of a raster that are looked up: borders are bent in another CRS."""

_SLACK = 0.01
"""Part of a pixel by which truth may reach over the map without being said to."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known to be right on a map's pixels."""

    labels: Labels
    window: Window
    """The part of the map outside of which surely nothing is known."""
    remarks: tuple[str, ...]
    """What a user should know about how the two lie, one sentence each."""


def truth_legend(path: Path) -> Legend | None:
    """Names of the values of a label raster, as far as it tells some; None for polygons.

    Raises:
        InputError: cannot be read, or has several bands.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    if is_vector(path):
        return None
    with reading(str(path)) as dataset:
        if dataset.count != 1:
            raise InputError(
                f"{path}: labels have one band, found {dataset.count}",
                hint="take one out, for example with gdal_translate -b 1; colours are no classes",
            )
        return Legend.of(dataset)


def open_truth(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: Meaning) -> Truth:
    """The truth in `path` for a map on `grid`, in ids of `classes`.

    Raises:
        InputError: unreadable, without a place, off the map, or with a meaning that is no class.
    """
    if is_vector(path):
        return _from_polygons(path, labels_onto(path, grid, classes, attribute=attribute, values=values), grid)
    source_grid = label_grid(path)
    problem = grid_problem(path, source_grid, grid, of="map")
    if problem is not None and not (source_grid.has_transform and grid.has_transform):
        raise InputError(
            f"{problem.message}, and without a georeference it cannot be placed on it",
            hint="truth without a georeference has the map's own pixels",
        )
    labels = labels_onto(path, grid, classes, attribute=attribute, values=values, resampled=problem is not None)
    if problem is None:
        return Truth(labels, Window(0, 0, grid.height, grid.width), ())
    try:
        box = _box_on(source_grid, grid)
    except FAILURES as error:
        raise InputError(f"{path}: cannot be placed on the map ({first_line(error)})") from error
    moved = f"{problem.message}: resampled to the map's pixels, the nearest one counts"
    return _placed(path, labels, box, grid, (moved,))


def _from_polygons(path: Path, labels: Labels, grid: Grid) -> Truth:
    if not isinstance(labels, PolygonLabels):
        raise TypeError(f"{path}: polygons are wanted")
    left, top, right, bottom = labels.bounds
    return _placed(path, labels, (left, top, right, bottom), grid, ())


def _placed(path: Path, labels: Labels, box: Box, grid: Grid, remarks: tuple[str, ...]) -> Truth:
    """The truth in `box`, of which only what lies on the map counts."""
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(grid.width, math.ceil(box[2])), min(grid.height, math.ceil(box[3]))
    if not (left < right and top < bottom):
        raise InputError(f"{path}: does not touch the map", hint="do both have the right CRS? `co2s info` tells it")
    over = box[0] < -_SLACK or box[1] < -_SLACK or box[2] > grid.width + _SLACK or box[3] > grid.height + _SLACK
    more = (f"{path}: reaches beyond the map, only what lies on it counts",) if over else ()
    return Truth(labels, Window(top, left, bottom - top, right - left), (*remarks, *more))


def _box_on(source_grid: Grid, grid: Grid) -> Box:
    """The smallest box, in pixels of `grid`, around all pixels of `source_grid`."""
    steps = [step / (_EDGE_POINTS - 1) for step in range(_EDGE_POINTS)]
    edges = [place for step in steps for place in ((step, 0.0), (step, 1.0), (0.0, step), (1.0, step))]
    xs, ys = zip(
        *(source_grid.at(across * source_grid.width, down * source_grid.height) for across, down in edges),
        strict=True,
    )
    source_crs, target_crs = crs_of_both(source_grid, grid)
    if source_crs != target_crs:
        xs, ys = warp_points(source_crs, target_crs, xs, ys)
    columns, rows = grid.place_of(np.asarray(xs), np.asarray(ys))
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())
