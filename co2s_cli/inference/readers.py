"""Read windows ahead of the model: threads with a handle of their own each, results in the order asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from co2s_cli.tiling import Window

T = TypeVar("T")
R = TypeVar("R")


class Patch(Protocol):
    """Pixels of a window as a scene gives them."""

    @property
    def pixels(self) -> NDArray[Any]:
        """(bands, h, w) in the scene's own type, invalid pixels filled."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(h, w), True = valid."""


class Reader(Protocol):
    """A handle on a scene, used by one thread."""

    def read(self, window: Window) -> Patch:
        """The pixels of a window, which may reach over the scene's edge."""


class Readers:
    """Some threads that read; used in a `with` block, at whose end their handles are closed."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Reader]], *, threads: int, ahead: int) -> None:
        self._opened = opened
        self._ahead = ahead
        self._handles = contextlib.ExitStack()
        self._own = threading.local()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self.waited = 0.0
        """Seconds in which the next window was asked for and not there yet."""

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._handles.close()

    def read(self, keys: Iterable[tuple[T, Window]]) -> Iterator[tuple[T, Patch]]:
        """Each window's patch under the key that came with it, in the order given; the next few are read meanwhile."""
        return ahead(self._pool, self._read, keys, count=self._ahead, waited=self._waited)

    def _read(self, key: tuple[T, Window]) -> tuple[T, Patch]:
        if not hasattr(self._own, "reader"):
            with self._lock:
                self._own.reader = self._handles.enter_context(self._opened())
        return key[0], self._own.reader.read(key[1])

    def _waited(self, seconds: float) -> None:
        self.waited += seconds


def ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    count: int,
    waited: Callable[[float], None] | None = None,
) -> Iterator[R]:
    """`work(item)` of each item in order, with up to `count` of them under way in `pool`; none is left behind."""
    under_way: deque[Future[R]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= count:
                yield _result(under_way.popleft(), waited)
        while under_way:
            yield _result(under_way.popleft(), waited)
    finally:
        for future in under_way:
            future.cancel()


def _result(future: Future[R], waited: Callable[[float], None] | None) -> R:
    started = time.perf_counter()
    result = future.result()
    if waited:
        waited(time.perf_counter() - started)
    return result
