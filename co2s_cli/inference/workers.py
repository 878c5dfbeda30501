"""Helper processes that do parts of a scene's work beside this process, and what they report."""

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
from typing import Any, Literal, TypeVar

from co2s_cli import log, tiling
from co2s_cli.errors import Co2sError, ResourceError

T = TypeVar("T")

POLL_SECONDS = 0.2
"""Between two looks at the reports of the helpers."""

Report = Callable[[Literal["windows", "note"], Any], None]
"""What a helper calls: ("windows", number of windows done since the last call) or ("note", text for the journal)."""

HelperWork = Callable[[Any, "Share", Report], None]
"""What a helper runs: the job, its share of it, and where to report."""


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` about equal parts of the work."""

    index: int = 0
    count: int = 1

    def of(self, units: Sequence[T]) -> list[T]:
        """The units of this share: consecutive ones, so that few windows are computed twice."""
        return [units[place] for place in tiling.worker_share(len(units), self.index, self.count)]


class Helpers:
    """Processes that do all shares of a job but the first."""

    def __init__(self, work: HelperWork, job: Any, count: int, note: Callable[[str], None]) -> None:
        """Start `count` - 1 processes that run `work` on `job`; `note` is given their notes."""
        context = get_context("spawn")  # a fork would inherit the threads and the device of a process with a model
        self._note = note
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._failure: Co2sError | RuntimeError | None = None
        self._counting = threading.Lock()
        self._windows = 0
        for index in range(1, count):
            parent_end, helper_end = context.Pipe()
            arguments = (work, job, Share(index, count), helper_end, log.verbosity())
            process = context.Process(target=_serve, args=arguments)
            process.start()
            helper_end.close()
            self._pipes.append(parent_end)
            self._processes.append(process)
        self._listeners = [
            threading.Thread(target=self._listen, args=pair, daemon=True)
            for pair in zip(self._pipes, self._processes, strict=True)
        ]
        for listener in self._listeners:
            listener.start()

    def windows(self) -> int:
        """Windows done by helpers since the last call; raises the error by which one of them failed."""
        if self._failure is not None:
            raise self._failure
        with self._counting:
            done, self._windows = self._windows, 0
        return done

    def wait(self, step: Callable[[int], None]) -> None:
        """Wait until all have done their share; `step` is told how many more windows are done."""
        while any(listener.is_alive() for listener in self._listeners):
            step(self.windows())
            time.sleep(POLL_SECONDS)
        step(self.windows())

    def stop(self) -> None:
        """End the processes, by a signal where they still run; finished units stay."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def _listen(self, pipe: Connection, process: BaseProcess) -> None:
        """Take the reports of one helper until its last."""
        while True:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                process.join()
                self._failure = self._failure or ResourceError(
                    f"a worker process ended early (exit code {process.exitcode})",
                    hint="mostly memory ran out: use fewer --workers or a smaller --mem-limit; finished parts are kept",
                )
                return
            if kind == "windows":
                with self._counting:
                    self._windows += content
            elif kind == "note":
                self._note(content)
            else:
                self._failure = self._failure or content
                return


@contextlib.contextmanager
def helpers(work: HelperWork, job: Any, count: int, note: Callable[[str], None]) -> Iterator[Helpers | None]:
    """`count` - 1 processes that run `work(job, share, report)` beside this one; None where `count` is 1."""
    if count == 1:
        yield None
        return
    started = Helpers(work, job, count, note)
    try:
        yield started
    finally:
        started.stop()


def _serve(work: HelperWork, job: Any, share: Share, pipe: Connection, verbosity: int) -> None:
    """The main function of a helper: do the share and report how it went. A helper ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log.setup(verbosity)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    sending = threading.Lock()
    failure: Co2sError | RuntimeError | None = None

    def report(kind: str, content: Any) -> None:
        with sending:
            pipe.send((kind, content))

    try:
        work(job, share, report)
    except Co2sError as error:
        failure = error
    except Exception:  # noqa: BLE001 - it is raised again in the process that waits
        failure = RuntimeError(f"worker {share.index}:\n{traceback.format_exc()}")
    report("end", failure)


def _end_with_parent(pipe: Connection) -> None:
    """End the process when the other end of the pipe closes; it never sends anything."""
    pipe.poll(None)
    os._exit(1)
