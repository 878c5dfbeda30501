"""Which units are whose: this process, processes that it starts, ranks that torchrun started."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from co2s_cli import tiling
from co2s_cli.errors import Co2sError, ResourceError
from co2s_cli.tiling import Window

T = TypeVar("T")

PATIENCE = 0.2
"""Seconds between two looks at what others have done."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One process among those that share a scene."""

    index: int = 0
    count: int = 1
    local: int = 0
    """Its place on this machine, which picks its GPU."""

    def mine(self, units: Sequence[Window]) -> list[Window]:
        """The units of this process: neighbours, so that few windows are computed twice."""
        return [units[place] for place in tiling.share(len(units), self.index, self.count)]


def rank_of_torchrun() -> Rank:
    """The rank that torchrun gave this process; the only one where it did not."""
    found = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    index, count, local = (int(text) if text.isdecimal() else None for text in found)
    return Rank(index, count, local or 0) if index is not None and count else Rank()


class Helpers:
    """Processes that do the shares of a scene that are not this process's own."""

    def __init__(self, target: Callable[[Any, Rank, Callable[[int], None]], None], task: Any, count: int) -> None:
        context = get_context("spawn")  # a fork would inherit the threads and the device of a process with a model
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._failure: Co2sError | RuntimeError | None = None
        self._lock = threading.Lock()
        self._windows = 0
        for index in range(1, count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(target, task, Rank(index, count, index), theirs))
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._listeners = [
            threading.Thread(target=self._listen, args=pair, daemon=True)
            for pair in zip(self._pipes, self._processes, strict=True)
        ]
        for listener in self._listeners:
            listener.start()

    def news(self) -> int:
        """Windows done by others since the last call; raises what made one of them fail."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            done, self._windows = self._windows, 0
        return done

    def wait(self, step: Callable[[int], None]) -> None:
        """Wait until all have done their share; `step` is told how many more windows are done."""
        while any(listener.is_alive() for listener in self._listeners):
            step(self.news())
            time.sleep(PATIENCE)
        step(self.news())

    def stop(self) -> None:
        """End them, if need be by force; what they have finished stays."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def _listen(self, pipe: Connection, process: BaseProcess) -> None:
        while True:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                process.join()
                self._failure = self._failure or ResourceError(
                    f"a worker process ended early (exit code {process.exitcode})",
                    hint="mostly memory ran out: use fewer --workers or a smaller --mem-limit; what is done is kept",
                )
                return
            if kind == "windows":
                with self._lock:
                    self._windows += content
            else:
                self._failure = self._failure or content
                return


@contextlib.contextmanager
def helpers(
    target: Callable[[Any, Rank, Callable[[int], None]], None], task: Any, count: int
) -> Iterator[Helpers | None]:
    """`count` - 1 processes beside this one that run `target(task, rank, step)`; None where there are none."""
    if count == 1:
        yield None
        return
    started = Helpers(target, task, count)
    try:
        yield started
    finally:
        started.stop()


def _serve(target: Callable[[Any, Rank, Callable[[int], None]], None], task: Any, rank: Rank, pipe: Connection) -> None:
    """The life of a helper: do the share, tell how it went. It ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    failure: Co2sError | RuntimeError | None = None
    try:
        target(task, rank, lambda count: pipe.send(("windows", count)))
    except Co2sError as error:
        failure = error
    except Exception:  # noqa: BLE001 - it is raised again in the process that waits
        failure = RuntimeError(f"worker {rank.index}:\n{traceback.format_exc()}")
    pipe.send(("end", failure))


def _end_with_parent(pipe: Connection) -> None:
    """The other side never sends: something to read means that it is gone."""
    pipe.poll(None)
    os._exit(1)


def wait_until(there: Callable[[], T | None]) -> T:
    """What `there` gives as soon as that is something."""
    while not (found := there()):
        time.sleep(PATIENCE)
    return found
