"""Map a function over processes, in order and never far ahead of who takes the results."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

CACHE_BYTES = 32_000_000
"""Of GDAL in each process: a row of blocks of most files."""

_WORTH_S = 4.0
"""Work left that is worth starting processes, which takes a second or two."""

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Sequence[T], *, workers: int) -> Iterator[R]:
    """The results for `items`: worked out here as long as little is left to do, then in `workers` processes."""
    spent = 0.0
    for done, item in enumerate(items):
        if workers > 1 and done and spent / done * (len(items) - done) > _WORTH_S:
            yield from _pooled(function, items[done:], workers)
            return
        begin = time.process_time()  # not the clock, which runs on where others use the machine
        result = function(item)
        spent += time.process_time() - begin
        yield result


def _pooled(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    # fresh interpreters: a fork would copy the locks that threads of whoever called us (torch, GDAL) hold just now
    with ProcessPoolExecutor(min(workers, len(items)), multiprocessing.get_context("spawn")) as pool:
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
