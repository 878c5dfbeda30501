"""Stream the features of a class raster: blocks of rows in processes, their seams here, features in batches."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo import arcs
from co2s_cli.geo.class_raster import Rows
from co2s_cli.geo.features import Features, Ground, describe
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons import Loose, Seams, split
from co2s_cli.geo.regions import Regions
from co2s_cli.geo.tally import EMPTY, Tally

_CACHE_BYTES = 64_000_000

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Task:
    """What every block needs to know."""

    source: str
    """Class raster."""
    height: int
    ground: Ground
    wanted: NDArray[np.bool_]
    """(257) True for values that become polygons."""
    confidence: str | None
    confidence_scale: float


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
    with mapping(workers) as in_order:
        for inside, loose in in_order(_Work(task), spans):
            yield _merged(inside, describe(seams.join(loose), task.ground, task.confidence_scale))


@contextlib.contextmanager
def mapping(workers: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """`map` over processes, a few items ahead of what is taken; in this process for a single worker."""
    if workers == 1:
        yield map
        return
    # a fresh interpreter: a fork would copy threads' locks of whoever called us (torch, GDAL)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:

        def in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            ahead: deque[Future[R]] = deque()
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        try:
            yield in_order
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Work:
    """Trace one block."""

    task: Task

    def __call__(self, span: Span) -> tuple[Features, Loose]:
        task = self.task
        with environment(_CACHE_BYTES), reading(task.source) as dataset:
            block = arcs.trace(Rows(dataset, task.source).values(span.top, span.bottom), span.top)
        counts = EMPTY if task.confidence is None else _count(task.confidence, span, block.regions)
        inside, loose = split(block.regions, block.arcs, counts, span.top, task.wanted)
        return describe(inside, task.ground, task.confidence_scale), loose


def _count(confidence: str, span: Span, found: Regions) -> Tally:
    """Confidences in the regions of a block; the row above it was counted with the block above."""
    with environment(_CACHE_BYTES), reading(confidence) as dataset:
        values, known = Rows(dataset, confidence).known(span.top, span.bottom)
    known[0] = known[-1] = False
    at = np.flatnonzero(known)
    return Tally.of(found.at(at), values.ravel()[at])


def _merged(one: Features, other: Features) -> Features:
    """Both, in the order in which features leave."""
    both = {field.name: np.concatenate([getattr(one, field.name), getattr(other, field.name)]) for field in fields(one)}
    order = np.lexsort((both["first"], both["bottom"]))
    return Features(**{name: column[order] for name, column in both.items()})
