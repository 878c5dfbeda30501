"""Stream the features of a class raster: blocks of rows in processes, their seams here, features in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import ResourceError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons import trace as arcs
from co2s_cli.geo.polygons.assemble import Loose, Seams, split
from co2s_cli.geo.polygons.class_raster import Rows
from co2s_cli.geo.polygons.features import Features, Ground, describe
from co2s_cli.geo.polygons.processes import CACHE_BYTES, in_order
from co2s_cli.geo.polygons.regions import Regions
from co2s_cli.geo.polygons.simplify import JOINTS_EVERY, simplified
from co2s_cli.geo.polygons.tally import EMPTY, Tally


@dataclass(frozen=True, slots=True)
class Task:
    """What every block needs to know."""

    source: str
    """Class raster."""
    height: int
    ground: Ground
    wanted: NDArray[np.bool_]
    """(257) True for values that become polygons."""
    tolerance: float
    """Of simplified borders, in pixels; 0 leaves them as they are."""
    confidence: str | None
    confidence_scale: float
    open_bytes: int
    """Memory that regions which go on below a block may take."""

    @property
    def step(self) -> int:
        """Rows of which blocks are made."""
        return JOINTS_EVERY if self.tolerance else 1


@dataclass(frozen=True, slots=True)
class Span:
    """Rows top … bottom - 1; the last one goes one row beyond the raster, whose lower border is traced with it."""

    top: int
    bottom: int


def plan(height: int, rows: int) -> list[Span]:
    """Consecutive blocks of `rows` rows."""
    tops = range(0, height, rows)
    return [Span(top, height + 1 if top + rows >= height else top + rows) for top in tops]


def features(task: Task, spans: list[Span], *, workers: int) -> Iterator[Features]:
    """The features of each block that are complete when it is done; the same, in the same order, for any blocks."""
    seams = Seams()
    for inside, loose in in_order(_Work(task), spans, workers=workers):
        yield _merged(inside, describe(seams.join(loose), task.ground, task.confidence_scale))
        if seams.nbytes > task.open_bytes:
            raise ResourceError(
                f"{task.source}: regions that reach over many rows take more than {task.open_bytes >> 20} MiB",
                hint="raise --mem-limit, or simplify more",
            )


@dataclass(frozen=True, slots=True)
class _Work:
    """Trace one block."""

    task: Task

    def __call__(self, span: Span) -> tuple[Features, Loose]:
        task = self.task
        with environment(CACHE_BYTES), reading(task.source) as dataset:
            rows = Rows(dataset, task.source).values(span.top, span.bottom)
        block = arcs.trace(rows, span.top, joints_every=JOINTS_EVERY if task.tolerance else 0)
        counts = EMPTY if task.confidence is None else _count(task.confidence, span, block.regions)
        lines = simplified(block.arcs, task.tolerance) if task.tolerance else block.arcs
        inside, loose = split(block.regions, lines, counts, span.top, task.wanted)
        return describe(inside, task.ground, task.confidence_scale), loose


def _count(confidence: str, span: Span, found: Regions) -> Tally:
    """Confidences in the regions of a block; the row above it was counted with the block above."""
    with environment(CACHE_BYTES), reading(confidence) as dataset:
        values, known = Rows(dataset, confidence).known(span.top, span.bottom)
    known[0] = known[-1] = False
    at = np.flatnonzero(known)
    return Tally.of(found.at(at), values.ravel()[at])


def _merged(one: Features, other: Features) -> Features:
    """Both, in the order in which features leave."""
    both = {field.name: np.concatenate([getattr(one, field.name), getattr(other, field.name)]) for field in fields(one)}
    order = np.lexsort((both["first"], both["bottom"]))
    return Features(**{name: column[order] for name, column in both.items()})
