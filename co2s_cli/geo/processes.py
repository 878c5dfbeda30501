"""Map a function over processes, in order and never far ahead of who takes the results."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

CACHE_BYTES = 64_000_000
"""Of GDAL in each process: a row of blocks of most files."""

InOrder = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextlib.contextmanager
def mapping(workers: int) -> Iterator[InOrder]:
    """`map` over `workers` processes; in this process for a single one."""
    if workers == 1:
        yield map
        return
    # fresh interpreters: a fork would copy the locks that threads of whoever called us (torch, GDAL) hold just now
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:

        def in_order(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            ahead: deque[Future[Any]] = deque()
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
