"""Stream the features of a class raster: blocks traced in processes, joined along their seams in this one."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons.assemble import OpenRegions, Seams, nothing_open, split
from co2s_cli.geo.polygons.class_raster import CACHE_BYTES, Rows
from co2s_cli.geo.polygons.features import Features, describe
from co2s_cli.geo.polygons.plan import VectorPlan
from co2s_cli.geo.polygons.regions import Regions, ValueCounts
from co2s_cli.geo.polygons.simplify import JOINTS_EVERY, simplified
from co2s_cli.geo.polygons.trace import trace
from co2s_cli.tiling import Window, spans

_POOL_PAYS_SECONDS = 4.0
"""Work left that is worth starting processes, which takes a second or two."""

T = TypeVar("T")
R = TypeVar("R")


def blocks_of(height: int, width: int, *, rows: int, columns: int) -> list[Window]:
    """Blocks that cover a raster, bands of rows from top to bottom, each from left to right.

    The last ones go one row, one column beyond it: its lower and its right border are traced with them.
    """
    return [
        Window(top, left, bottom + (bottom == height) - top, right + (right == width) - left)
        for top, bottom in spans(height, rows)
        for left, right in spans(width, columns)
    ]


def features(plan: VectorPlan, blocks: list[Window], *, workers: int) -> Iterator[Features]:
    """The features of each band of blocks that are complete when it is done; the same, in the same order, for any.

    The order is that of their last rows and, of features with the same one, of their first pixels in raster order.

    Raises:
        InputError: a raster cannot be read.
        ResourceError: the borders of regions that go on below a band take more than `plan.open_bytes`.
    """
    seams, band, done = Seams(), Seams(), list[Features]()
    traced = in_order(_BlockTracer(plan), blocks, workers=workers)
    for block, (inside, open_regions) in zip(blocks, traced, strict=True):
        done.append(inside)
        is_last = block.right > plan.width
        if block.col or not is_last:
            done.append(describe(band.join(open_regions.turned()), plan.ground, plan.confidence_scale))
        if is_last:
            rest = band.rest() if block.col else open_regions
            yield _merged([*done, describe(seams.join(rest), plan.ground, plan.confidence_scale)])
            band, done = Seams(), []
        taken = seams.nbytes + band.nbytes
        if taken > plan.open_bytes:
            raise ResourceError(
                f"{plan.source}: the borders of regions that reach over many rows take {show_bytes(taken)}, "
                f"{show_bytes(plan.open_bytes)} are allowed",
                hint=f"give --mem-limit {math.ceil(8 * plan.open_bytes / 1e9)}GB, or simplify more",
            )


@dataclass(frozen=True, slots=True)
class _BlockTracer:
    """Traces one block."""

    plan: VectorPlan

    def __call__(self, block: Window) -> tuple[Features, OpenRegions]:
        plan = self.plan
        with environment(CACHE_BYTES), reading(plan.source) as dataset:
            pixels = Rows(dataset, plan.source).values(block)
        if not plan.wanted[pixels].any():  # as most of a large mosaic may be
            return Features.none(), nothing_open(pixels, block, width=plan.width)
        traced = trace(pixels, block, width=plan.width, joints_every=JOINTS_EVERY if plan.tolerance else 0)
        counts = ValueCounts.none() if plan.confidence is None else _count(plan.confidence, block, traced.regions)
        if plan.tolerance:
            sides = [side for side in (block.col, block.right) if 0 < side <= plan.width]
            traced = replace(traced, arcs=simplified(traced.arcs, plan.tolerance, sides))
        complete, open_regions = split(traced, counts, block, width=plan.width, wanted=plan.wanted)
        return describe(complete, plan.ground, plan.confidence_scale), open_regions


def _count(confidence: str, block: Window, regions: Regions) -> ValueCounts:
    """Confidences in the regions of a block; what lies above and left of it is counted with other blocks."""
    with environment(CACHE_BYTES), reading(confidence) as dataset:
        values, valid = Rows(dataset, confidence).valid_values(block)
    valid[0] = valid[:, 0] = False
    pixels = np.flatnonzero(valid[:-1, :-1])
    return ValueCounts.of(regions.at(pixels), values[:-1, :-1].ravel()[pixels])


def _merged(parts: list[Features]) -> Features:
    """All of them, in the order in which features leave."""
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Features)}
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
