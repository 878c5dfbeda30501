"""Sieve a class raster block by block, each with as many rows around it as its small regions need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.errors import ResourceError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons import regions
from co2s_cli.geo.polygons.adjacency import Edges, edges
from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.class_raster import Rows
from co2s_cli.geo.polygons.processes import CACHE_BYTES, in_order
from co2s_cli.geo.polygons.regions import Pixels, Regions
from co2s_cli.geo.polygons.sieve import Graph, Limits, sieve

_HALO = 64
"""Rows that are looked at first above and below a block; doubled until they are enough."""


@dataclass(frozen=True, slots=True)
class SieveTask:
    """What every block needs to know."""

    source: str
    height: int
    limits: Limits
    row_area: Index
    """Area of the pixels of each row, in a unit that makes it a whole number."""
    most_rows: int
    """Rows that may be looked at together."""


def sieved(task: SieveTask, rows: int, *, workers: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and classes (rows, columns) of the blocks of the sieved raster, from top to bottom."""
    tops = range(0, task.height, rows)
    spans = [(top, min(top + rows, task.height)) for top in tops]
    yield from zip(tops, in_order(_Work(task), spans, workers=workers), strict=True)


@dataclass(frozen=True, slots=True)
class _Work:
    """Sieve one block."""

    task: SieveTask

    def __call__(self, span: tuple[int, int]) -> NDArray[np.uint8]:
        task, (top, bottom), halo = self.task, span, _HALO
        with environment(CACHE_BYTES), reading(task.source) as dataset:
            while True:
                first, last = max(0, top - halo), min(task.height, bottom + halo)
                pixels = Rows(dataset, task.source).values(first, last)[1:-1, 1:-1]
                settled, is_open = _settled(task, pixels, first)
                if not is_open[top - first : bottom - first].any():
                    return settled[top - first : bottom - first].astype(np.uint8)
                halo *= 2
                if last - first > task.most_rows:
                    raise ResourceError(
                        f"{task.source}: small regions hang together over more than {task.most_rows} rows",
                        hint="raise --mem-limit, or lower --min-area",
                    )


def _settled(task: SieveTask, pixels: Pixels, top: int) -> tuple[Pixels, NDArray[np.bool_]]:
    """The classes after merging, and True where more rows may change them."""
    found = regions.find(pixels)
    graph = _graph(task, found, top, top + len(pixels) == task.height)
    value, is_open = sieve(graph, task.limits)
    return (
        value.astype(np.uint16)[found.label][found.run_of].reshape(pixels.shape),
        is_open[found.label][found.run_of].reshape(pixels.shape),
    )


def _graph(task: SieveTask, found: Regions, top: int, is_last: bool) -> Graph:
    """The regions of rows from `top` on and their edges; nodata takes no part."""
    rows = found.run_of.size // found.columns
    area = np.zeros(found.count, np.int64)
    lengths = np.diff(found.starts, append=found.run_of.size)
    np.add.at(area, found.label, lengths * task.row_area[top + found.starts // found.columns])
    whole = np.ones(found.count, bool)
    if top > 0:
        whole[found.in_row(0)] = False
    if not is_last:
        whole[found.in_row(rows - 1)] = False
    is_class = found.values != IGNORE
    shared = edges(found)
    kept = is_class[shared.one] & is_class[shared.other]
    return Graph(
        found.values.astype(np.int64),
        area,
        found.starts[found.first] + top * found.columns,
        whole | ~is_class,
        np.zeros(found.count, bool),
        Edges(shared.one[kept], shared.other[kept], shared.length[kept]),
    )
