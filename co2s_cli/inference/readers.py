"""Read windows ahead of the model: threads with a handle of their own each, results in the order asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from co2s_cli.tiling import Window

K = TypeVar("K")
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
    """Some threads that read; used in a `with` block, at whose end their handles are closed.

    Each thread opens and closes its own handle: GDAL's environment belongs to a thread.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Reader]], *, threads: int, ahead: int) -> None:
        self._opened = opened
        self._ahead = ahead
        self._orders: SimpleQueue[tuple[Future[Patch], Window] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"reader-{n}") for n in range(threads)]
        self.waited = 0.0
        """Seconds in which the next window was asked for and not there yet."""

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            thread.join()

    def read(self, keys: Iterable[tuple[K, Window]]) -> Iterator[tuple[K, Patch]]:
        """Each window's patch under the key that came with it, in the order given; the next few are read meanwhile."""
        asked: deque[K] = deque()

        def order(item: tuple[K, Window]) -> Future[Patch]:
            asked.append(item[0])
            future: Future[Patch] = Future()
            self._orders.put((future, item[1]))
            return future

        for patch in ahead(order, keys, count=self._ahead, waited=self._wait):
            yield asked.popleft(), patch

    def _wait(self, seconds: float) -> None:
        self.waited += seconds

    def _serve(self) -> None:
        """The life of a reader; a handle that cannot be opened fails the orders, not the thread."""
        with contextlib.ExitStack() as handles:
            reader: Reader | None = None
            while (order := self._orders.get()) is not None:
                future, window = order
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    reader = reader or handles.enter_context(self._opened())
                    future.set_result(reader.read(window))
                except BaseException as error:  # noqa: BLE001 - it is raised where the window is waited for
                    future.set_exception(error)


def ahead(
    submit: Callable[[T], Future[R]],
    items: Iterable[T],
    *,
    count: int,
    waited: Callable[[float], None] | None = None,
) -> Iterator[R]:
    """The result of each item in order, with up to `count` of them under way; what is not begun at the end never is."""
    under_way: deque[Future[R]] = deque()
    try:
        for item in items:
            under_way.append(submit(item))
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
