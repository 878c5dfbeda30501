"""Stream the features of a class raster: blocks are traced in worker processes and joined in this process."""

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
from co2s_cli.geo.polygons.assemble import OpenRegions, SeamJoiner, no_open_regions, split
from co2s_cli.geo.polygons.class_raster import CACHE_BYTES, ByteRasterReader
from co2s_cli.geo.polygons.features import Features, describe
from co2s_cli.geo.polygons.plan import VectorPlan
from co2s_cli.geo.polygons.regions import Regions, ValueCounts
from co2s_cli.geo.polygons.simplify import JOINTS_EVERY, simplified
from co2s_cli.geo.polygons.trace import trace
from co2s_cli.tiling import Window, spans

_POOL_SECONDS = 4.0
"""Least remaining work for which worker processes are started; starting them takes a second or two."""

T = TypeVar("T")
R = TypeVar("R")


def blocks_of(height: int, width: int, *, rows: int, columns: int) -> list[Window]:
    """Blocks that cover a raster: bands of rows from top to bottom, the blocks of a band from left to right.

    The lowest blocks have one row, the rightmost ones one column more than the raster, so that its lower and right
    border are traced with them.
    """
    return [
        Window(top, left, bottom + (bottom == height) - top, right + (right == width) - left)
        for top, bottom in spans(height, rows)
        for left, right in spans(width, columns)
    ]


def features(plan: VectorPlan, blocks: list[Window], *, workers: int) -> Iterator[Features]:
    """After each band of blocks, the features that are complete by then.

    Features and their order are the same for any size of blocks: by last row, then by first pixel in raster order.

    Raises:
        InputError: a raster cannot be read.
        ResourceError: the borders of regions that continue below a band take more than `plan.open_bytes`.
    """
    seams, band, done = SeamJoiner(), SeamJoiner(), list[Features]()
    traced = in_order(_BlockTracer(plan), blocks, workers=workers)
    for block, (complete, open_regions) in zip(blocks, traced, strict=True):
        done.append(complete)
        ends_band = block.right > plan.width
        if block.col or not ends_band:
            done.append(describe(band.join(open_regions.transposed()), plan.ground, plan.confidence_scale))
        if ends_band:
            open_in_band = band.open_regions() if block.col else open_regions
            yield _merged([*done, describe(seams.join(open_in_band), plan.ground, plan.confidence_scale)])
            band, done = SeamJoiner(), []
        open_bytes = seams.nbytes + band.nbytes
        if open_bytes > plan.open_bytes:
            raise ResourceError(
                f"{plan.source}: the borders of regions that reach over many rows take {show_bytes(open_bytes)}, "
                f"{show_bytes(plan.open_bytes)} are allowed",
                hint=f"give --mem-limit {math.ceil(8 * plan.open_bytes / 1e9)}GB, or simplify more",
            )


@dataclass(frozen=True, slots=True)
class _BlockTracer:
    """Reads and traces one block: its features that are complete, and its open regions."""

    plan: VectorPlan

    def __call__(self, block: Window) -> tuple[Features, OpenRegions]:
        plan = self.plan
        with environment(CACHE_BYTES), reading(plan.source) as dataset:
            pixels = ByteRasterReader(dataset, plan.source).values(block)
        if not plan.wanted[pixels].any():  # nodata, as most of a large mosaic may be
            return Features.none(), no_open_regions(pixels, block, width=plan.width)
        traced = trace(pixels, block, width=plan.width, joints_every=JOINTS_EVERY if plan.tolerance else 0)
        counts = ValueCounts.none() if plan.confidence is None else _count(plan.confidence, block, traced.regions)
        if plan.tolerance:
            sides = [side for side in (block.col, block.right) if 0 < side <= plan.width]
            traced = replace(traced, arcs=simplified(traced.arcs, plan.tolerance, sides))
        complete, open_regions = split(traced, counts, block, width=plan.width, wanted=plan.wanted)
        return describe(complete, plan.ground, plan.confidence_scale), open_regions


def _count(confidence: str, block: Window, regions: Regions) -> ValueCounts:
    """Histogram of the confidences in the regions of a block, without the row above and the column left of it."""
    with environment(CACHE_BYTES), reading(confidence) as dataset:
        values, valid = ByteRasterReader(dataset, confidence).valid_values(block)
    valid[0] = valid[:, 0] = False
    pixels = np.flatnonzero(valid[:-1, :-1])
    return ValueCounts.of(regions.at(pixels), values[:-1, :-1].ravel()[pixels])


def _merged(parts: list[Features]) -> Features:
    """The features of all parts in the order of output: by last row, then by first pixel."""
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Features)}
    order = np.lexsort((columns["first"], columns["bottom"]))
    return Features(**{name: column[order] for name, column in columns.items()})


def in_order(function: Callable[[T], R], items: Sequence[T], *, workers: int) -> Iterator[R]:
    """The results for `items`, in order: first in this process, then in `workers` processes where that pays.

    Processes are started once the mean time of the items done so far says that enough work is left.
    """
    seconds = 0.0
    for done, item in enumerate(items):
        if workers > 1 and done and seconds / done * (len(items) - done) > _POOL_SECONDS:
            yield from _pooled(function, items[done:], workers)
            return
        begin = time.process_time()  # not wall-clock time, which grows with the load of the machine
        result = function(item)
        seconds += time.process_time() - begin
        yield result


def _pooled(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """The results in order, never more than `workers` results ahead of the caller."""
    # spawned, not forked: a fork would copy locks that threads of the caller's libraries (torch, GDAL) hold by then
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
