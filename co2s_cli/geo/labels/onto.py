"""A raster brought onto another grid while it is read: the nearest of its pixels counts; nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as warp_points

from co2s_cli.geo.grid import Grid

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of a grid."""

_TOLERANCE = 0.01
"""Pixels by which a place may be off: as far as two grids may be and still be the same. Less takes 20 times as long."""

_EDGE_POINTS = 21
"""Places along each edge of a raster that are looked up: borders are bent in another CRS."""


@contextlib.contextmanager
def nearest(dataset: Any, grid: Grid) -> Iterator[Any]:
    """An open one-band raster on `grid`; its second band is 0 where the raster holds nothing.

    GDAL resamples in blocks of its own, so that no pixel depends on the window in which it is read.
    """
    own, target = crs_of_both(Grid.of(dataset), grid)
    with WarpedVRT(
        dataset,
        src_crs=own,
        crs=target,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling.nearest,
        add_alpha=True,
        tolerance=_TOLERANCE,
    ) as moved:
        yield moved


def box_on(own: Grid, grid: Grid) -> Box:
    """The smallest box, in pixels of `grid`, around all that lies on `own`."""
    steps = [step / (_EDGE_POINTS - 1) for step in range(_EDGE_POINTS)]
    edges = [place for step in steps for place in ((step, 0.0), (step, 1.0), (0.0, step), (1.0, step))]
    xs, ys = zip(*(own.at(across * own.width, down * own.height) for across, down in edges), strict=True)
    source, target = crs_of_both(own, grid)
    if source != target:
        xs, ys = warp_points(source, target, xs, ys)
    columns, rows = grid.place_of(np.asarray(xs), np.asarray(ys))
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())


def crs_of_both(own: Grid, grid: Grid) -> tuple[CRS, CRS]:
    """The CRS of two grids; one that has none is taken to have the other's, and two have any, as long as it is one."""
    anything = own.crs or grid.crs or CRS.from_epsg(3857)
    return own.crs or anything, grid.crs or anything
