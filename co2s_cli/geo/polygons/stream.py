"""Stream the features of a class raster: blocks of rows traced in processes, joined along their seams in this one."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons.assemble import OpenRegions, Seams, split
from co2s_cli.geo.polygons.class_raster import CACHE_BYTES, Rows
from co2s_cli.geo.polygons.features import Features, describe
from co2s_cli.geo.polygons.plan import VectorPlan
from co2s_cli.geo.polygons.regions import Regions, ValueCounts
from co2s_cli.geo.polygons.simplify import JOINTS_EVERY, simplified
from co2s_cli.geo.polygons.trace import trace

_POOL_PAYS_SECONDS = 4.0
"""Work left that is worth starting processes, which takes a second or two."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Rows top … bottom - 1; the last one goes one row beyond the raster, whose lower border is traced with it."""

    top: int
    bottom: int


def row_spans(height: int, rows: int) -> list[RowSpan]:
    """Consecutive blocks of `rows` rows."""
    tops = range(0, height, rows)
    return [RowSpan(top, height + 1 if top + rows >= height else top + rows) for top in tops]


def features(plan: VectorPlan, spans: list[RowSpan], *, workers: int) -> Iterator[Features]:
    """The features of each block that are complete when it is done; the same, in the same order, for any blocks.

    Raises:
        InputError: a raster cannot be read.
        ResourceError: the borders of regions that go on below a block take more than `plan.open_bytes`.
    """
    seams = Seams()
    for inside, open_regions in in_order(_BlockTracer(plan), spans, workers=workers):
        yield _merged(inside, describe(seams.join(open_regions), plan.ground, plan.confidence_scale))
        if seams.nbytes > plan.open_bytes:
            raise ResourceError(
                f"{plan.source}: the borders of regions that reach over many rows take {show_bytes(seams.nbytes)}, "
                f"{show_bytes(plan.open_bytes)} are allowed",
                hint=f"give --mem-limit {math.ceil(8 * plan.open_bytes / 1e9)}GB, or simplify more",
            )


@dataclass(frozen=True, slots=True)
class _BlockTracer:
    """Traces one block."""

    plan: VectorPlan

    def __call__(self, span: RowSpan) -> tuple[Features, OpenRegions]:
        plan = self.plan
        with environment(CACHE_BYTES), reading(plan.source) as dataset:
            rows = Rows(dataset, plan.source).values(span.top, span.bottom)
        block = trace(rows, span.top, joints_every=JOINTS_EVERY if plan.tolerance else 0)
        counts = ValueCounts.none() if plan.confidence is None else _count(plan.confidence, span, block.regions)
        arcs = simplified(block.arcs, plan.tolerance) if plan.tolerance else block.arcs
        complete, open_regions = split(block.regions, arcs, counts, span.top, plan.wanted)
        return describe(complete, plan.ground, plan.confidence_scale), open_regions


def _count(confidence: str, span: RowSpan, regions: Regions) -> ValueCounts:
    """Confidences in the regions of a block; the row above it was counted with the block above."""
    with environment(CACHE_BYTES), reading(confidence) as dataset:
        values, valid = Rows(dataset, confidence).valid_values(span.top, span.bottom)
    valid[0] = valid[-1] = False
    pixels = np.flatnonzero(valid)
    return ValueCounts.of(regions.at(pixels), values.ravel()[pixels])


def _merged(first: Features, second: Features) -> Features:
    """Both, in the order in which features leave."""
    columns = {
        field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(Features)
    }
    order = np.lexsort((columns["first"], columns["bottom"]))
    return Features(**{name: column[order] for name, column in columns.items()})


def in_order(function: Callable[[T], R], items: Sequence[T], *, workers: int) -> Iterator[R]:
    """The results for `items`, in order: in this process while little work is left, then in `workers` processes."""
    spent = 0.0
    for done, item in enumerate(items):
        if workers > 1 and done and spent / done * (len(items) - done) > _POOL_PAYS_SECONDS:
            yield from _pooled(function, items[done:], workers)
            return
        begin = time.process_time()  # not the clock, which runs on where others use the machine
        result = function(item)
        spent += time.process_time() - begin
        yield result


def _pooled(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """The results in order, never more than `workers` results ahead of the caller."""
    # fresh interpreters: a fork would copy the locks that threads of whoever called us (torch, GDAL) hold just now
    with ProcessPoolExecutor(min(workers, len(items)), multiprocessing.get_context("spawn")) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
