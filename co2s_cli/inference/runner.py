"""Read, batch, run and blend the windows of an area of a scene; the result is a stream of finished strips of rows."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.geo.read.reader import Patch
from co2s_cli.inference.engine import InferenceEngine, one_thread
from co2s_cli.inference.stitch import BlendedStrip, BlendWeights, WindowValues, stitch
from co2s_cli.tiling import TilePlan, Window

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


class WindowReader(Protocol):
    """An open scene, used by one thread."""

    def read(self, window: Window) -> Patch:
        """The pixels of a window, which may reach over the scene's edge."""


@dataclass(frozen=True, slots=True)
class WindowKey:
    """One window of the lattice."""

    down: int
    """Row of the window in the lattice."""
    across: int
    """Column of the window in the lattice."""
    rank: int
    """Number of the window, row by row, among all windows of the scene that may hold a valid pixel. Rank // batch is
    the batch and rank % batch the slot, so that a window has the same slot in any area and in any run."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The windows of a plan, and which of them may hold a valid pixel."""

    plan: TilePlan
    may_be_valid: NDArray[np.bool_]
    """(rows of windows, columns of windows); False = certainly no valid pixel: the window is neither read nor run."""
    ranks: NDArray[np.int64] = field(init=False)
    """(rows of windows,) rank of the first window of each row that may hold a valid pixel."""

    def __post_init__(self) -> None:
        counts = self.may_be_valid.sum(axis=1, dtype=np.int64)
        object.__setattr__(self, "ranks", np.cumsum(counts) - counts)

    def keys(self, area: Window) -> Iterator[WindowKey]:
        """The windows to read for an area, in row-major order."""
        rows, cols = self.plan.overlapping(area)
        for down in rows:
            rank = int(self.ranks[down]) + int(self.may_be_valid[down, : cols.start].sum())
            for across in cols:
                if self.may_be_valid[down, across]:
                    yield WindowKey(down, across, rank)
                    rank += 1

    def count(self, area: Window) -> int:
        """Number of windows to read for an area."""
        rows, cols = self.plan.overlapping(area)
        return int(self.may_be_valid[rows.start : rows.stop, cols.start : cols.stop].sum())


class Readers:
    """Threads that read windows ahead of the model; a context manager that closes the threads' handles at its end.

    Each thread opens and closes its own handle: GDAL's environment belongs to a thread.
    """

    def __init__(
        self, open_reader: Callable[[], AbstractContextManager[WindowReader]], *, threads: int, ahead: int
    ) -> None:
        """`ahead` windows are read or waiting while one is consumed."""
        self._open_reader = open_reader
        self._ahead = ahead
        self._requests: SimpleQueue[tuple[Future[Patch], Window] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"reader-{n}") for n in range(threads)]
        self.waited = 0.0
        """Seconds in which the consumer waited for a window that was not read yet."""

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_requests()
        for _thread in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def read(self, keys: Iterable[tuple[K, Window]]) -> Iterator[tuple[K, Patch]]:
        """Each window's patch with its key, in the order of `keys`; the next `ahead` windows are read meanwhile."""
        pending: deque[K] = deque()

        def request(item: tuple[K, Window]) -> Future[Patch]:
            pending.append(item[0])
            future: Future[Patch] = Future()
            self._requests.put((future, item[1]))
            return future

        for patch in ahead(request, keys, count=self._ahead, add_waited=self._add_waited):
            yield pending.popleft(), patch

    def _add_waited(self, seconds: float) -> None:
        self.waited += seconds

    def _drop_requests(self) -> None:
        """Cancel reads that have not begun: after a failure they are useless, and a remote read may take minutes."""
        with contextlib.suppress(Empty):
            while True:
                request = self._requests.get_nowait()
                if request is not None:
                    request[0].cancel()

    def _serve(self) -> None:
        """Serve requests until None is queued; a handle that cannot be opened fails the requests, not the thread."""
        with contextlib.ExitStack() as handles:
            reader: WindowReader | None = None
            while (request := self._requests.get()) is not None:
                future, window = request
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    reader = reader or handles.enter_context(self._open_reader())
                    future.set_result(reader.read(window))
                except BaseException as error:  # noqa: BLE001 - raised again by the consumer of the window
                    future.set_exception(error)


def ahead(
    submit: Callable[[T], Future[R]],
    items: Iterable[T],
    *,
    count: int,
    add_waited: Callable[[float], None] | None = None,
) -> Iterator[R]:
    """The results of all items in order, with up to `count` items submitted at a time.

    When the iterator is closed, pending items are cancelled. `add_waited` is called with the seconds spent waiting for
    each result.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(submit(item))
            if len(pending) >= count:
                yield _result(pending.popleft(), add_waited)
        while pending:
            yield _result(pending.popleft(), add_waited)
    finally:
        for future in pending:
            future.cancel()


def _result(future: Future[R], add_waited: Callable[[float], None] | None) -> R:
    started = time.perf_counter()
    result = future.result()
    if add_waited:
        add_waited(time.perf_counter() - started)
    return result


@dataclass(slots=True)
class Pace:
    """Counts and times of the computing of a process so far."""

    read: int = 0
    """Windows read."""
    ran: int = 0
    """Windows that held a valid pixel and went through the model."""
    seconds: float = 0.0
    """Time since the first read."""
    waited: float = 0.0
    """Part of `seconds` in which the model waited for a window to be read."""


class Runner:
    """Runs the model over areas of one scene."""

    def __init__(
        self,
        lattice: Lattice,
        engine: InferenceEngine,
        open_reader: Callable[[], AbstractContextManager[WindowReader]],
        *,
        lanes: int,
        threads: int,
    ) -> None:
        """`open_reader` opens one reader per thread; `lanes` batches run at a time, `threads` threads read."""
        self.pace = Pace()
        self._lattice = lattice
        self._engine = engine
        self._open_reader = open_reader
        self._lanes = lanes
        self._threads = threads
        self._weights = BlendWeights(lattice.plan, engine.device)

    def strips(self, area: Window, *, step: Callable[[int], None] = lambda _: None) -> Generator[BlendedStrip]:
        """Finished rows of `area`; `step` is called with the number of windows newly read."""
        # windows being read, one batch being filled, and one batch waiting behind each lane
        ahead_count = self._threads + (self._lanes + 1) * self._engine.batch
        with (
            Readers(self._open_reader, threads=self._threads, ahead=ahead_count) as readers,
            ThreadPoolExecutor(self._lanes, "lane", initializer=one_thread) as lanes,
        ):
            windows = ((key, self._window(key)) for key in self._lattice.keys(area))
            patches = self._counted(readers.read(windows), readers, step)
            batches = groupby(patches, key=lambda item: item[0].rank // self._engine.batch)
            # windows without a valid pixel are not run; empty batches are skipped
            valid = filter(None, ([item for item in batch if item[1].valid.any()] for _, batch in batches))
            values = ahead(lambda batch: lanes.submit(self._values, batch), valid, count=self._lanes + 1)
            yield from stitch(
                (window for batch in values for window in batch),
                plan=self._lattice.plan,
                area=area,
                depth=self._engine.product.depth,
                device=self._engine.device,
            )

    def _window(self, key: WindowKey) -> Window:
        return self._lattice.plan.window(key.down, key.across)

    def _values(self, batch: list[tuple[WindowKey, Patch]]) -> list[WindowValues]:
        """Run one batch; returns its windows' values, multiplied by their blend weights."""
        size = self._engine.batch
        values = self._engine.run([(key.rank % size, patch.pixels) for key, patch in batch])
        with torch.inference_mode():
            for key, _ in batch:
                self._weights.apply(values[key.rank % size], key.down, key.across)
        return [WindowValues(key.down, key.across, values[key.rank % size], patch.valid) for key, patch in batch]

    def _counted(
        self, patches: Iterable[tuple[WindowKey, Patch]], readers: Readers, step: Callable[[int], None]
    ) -> Iterator[tuple[WindowKey, Patch]]:
        """Pass patches on, and count them, the time and the waiting in `pace`."""
        started = time.perf_counter()
        seconds_before, waited_before = self.pace.seconds, self.pace.waited
        for item in patches:
            self.pace.read += 1
            self.pace.ran += bool(item[1].valid.any())
            self.pace.seconds = seconds_before + time.perf_counter() - started
            self.pace.waited = waited_before + readers.waited
            yield item
            step(1)
