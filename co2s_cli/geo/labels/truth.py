"""Truth for a map: reference labels, as a raster on any grid or as polygons, brought to the map's pixels."""

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
from co2s_cli.geo.labels.labels import ClassOfValue, Labels, PolygonLabels, crs_pair, label_grid, labels_on
from co2s_cli.geo.legend import Legend
from co2s_cli.geo.read.features import is_vector, read_shapes, shape_noun
from co2s_cli.tiling import Window

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of a grid."""

_EDGE_POINTS = 21
"""Points on each edge of a raster that are transformed to another CRS, in which straight edges may be curved."""

_SLACK = 0.01
"""Pixels by which truth may extend beyond the map without a remark."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Reference labels on a map's pixels."""

    labels: Labels
    window: Window
    """Part of the map outside which certainly no pixel has a reference label."""
    remarks: tuple[str, ...]
    """Sentences for the user: whether the truth was resampled, and whether it extends beyond the map."""


def truth_legend(path: Path) -> Legend | None:
    """Names and colours of the values of a label raster; None for polygons.

    Raises:
        InputError: the file cannot be read, or the raster has several bands.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    if is_vector(path):
        return None
    with reading(str(path)) as dataset:
        if dataset.count != 1:
            raise InputError(
                f"{path}: labels have one band, found {dataset.count}",
                hint="extract one, for example with gdal_translate -b 1; bands of an RGB picture are no classes",
            )
        return Legend.of(dataset)


def open_truth(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: ClassOfValue) -> Truth:
    """The truth in the file `path` for a map on `grid`, as ids of `classes`.

    Raises:
        InputError: the file cannot be read, has no georeference, does not touch the map, or a value maps to no class.
    """
    if is_vector(path):
        _refuse_points(path)
        return _from_polygons(path, labels_on(path, grid, classes, attribute=attribute, values=values), grid)
    source_grid = label_grid(path)
    problem = grid_problem(path, source_grid, grid, of="map")
    if problem is not None and not (source_grid.has_transform and grid.has_transform):
        raise InputError(
            f"{problem.message}, and without a georeference it cannot be placed on the map",
            hint="georeference the truth and the map, or give truth with the same pixels as the map",
        )
    labels = labels_on(path, grid, classes, attribute=attribute, values=values, resampled=problem is not None)
    if problem is None:
        return Truth(labels, Window(0, 0, grid.height, grid.width), ())
    try:
        box = _box_on(source_grid, grid)
    except FAILURES as error:
        raise InputError(f"{path}: cannot be placed on the map ({first_line(error)})") from error
    remark = f"{problem.message}: resampled to the map's pixels by the nearest one"
    return _placed(path, labels, box, grid, (remark,))


def _refuse_points(path: Path) -> None:
    """Refuse points: pixels around them are no sample that figures can be computed from."""
    noun = shape_noun(read_shapes(path))
    if noun != "polygons":
        own_file = "put the points into a file of their own, and " if noun != "points" else ""
        raise InputError(
            f"{path}: holds {noun}, and truth is a raster or polygons",
            hint=f"{own_file}for the points of a sample use `co2s evaluate MAP POINTS --areas`",
        )


def _from_polygons(path: Path, labels: Labels, grid: Grid) -> Truth:
    if not isinstance(labels, PolygonLabels):
        raise TypeError(f"{path}: polygons are wanted")
    left, top, right, bottom = labels.bounds
    return _placed(path, labels, (left, top, right, bottom), grid, ())


def _placed(path: Path, labels: Labels, box: Box, grid: Grid, remarks: tuple[str, ...]) -> Truth:
    """The truth of labels that fill `box`, clipped to the map."""
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(grid.width, math.ceil(box[2])), min(grid.height, math.ceil(box[3]))
    if not (left < right and top < bottom):
        raise InputError(f"{path}: does not touch the map", hint="check the CRS of both with `co2s info`")
    beyond = box[0] < -_SLACK or box[1] < -_SLACK or box[2] > grid.width + _SLACK or box[3] > grid.height + _SLACK
    clipped = (f"{path}: extends beyond the map, only the part on the map counts",) if beyond else ()
    return Truth(labels, Window(top, left, bottom - top, right - left), (*remarks, *clipped))


def _box_on(source_grid: Grid, grid: Grid) -> Box:
    """The smallest box, in pixels of `grid`, around all pixels of `source_grid`."""
    steps = [step / (_EDGE_POINTS - 1) for step in range(_EDGE_POINTS)]
    edges = [point for step in steps for point in ((step, 0.0), (step, 1.0), (0.0, step), (1.0, step))]
    xs, ys = zip(
        *(source_grid.at(across * source_grid.width, down * source_grid.height) for across, down in edges),
        strict=True,
    )
    source_crs, target_crs = crs_pair(source_grid, grid)
    if source_crs != target_crs:
        xs, ys = warp_points(source_crs, target_crs, xs, ys)
    columns, rows = grid.pixel_of(np.asarray(xs), np.asarray(ys))
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())
