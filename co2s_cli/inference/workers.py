"""Helper processes that compute shares of a scene, and their reports to the main process."""

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
"""Pause between two checks of the helpers' reports."""

Report = Callable[[Literal["windows", "note"], Any], None]
"""Callback of a helper: ("windows", windows done since the last call) or ("note", text for the journal)."""

HelperWork = Callable[[Any, "Share", Report], None]
"""Function that a helper runs, called with the job, the helper's share of it and the callback for reports."""


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` nearly equal parts of the work."""

    index: int = 0
    count: int = 1

    def of(self, units: Sequence[T]) -> list[T]:
        """The units of this share: consecutive ones, so that few windows are computed twice."""
        return [units[index] for index in tiling.worker_share(len(units), self.index, self.count)]


class Helpers:
    """Processes that do all shares of a job but the first."""

    def __init__(self, work: HelperWork, job: Any, count: int, note: Callable[[str], None]) -> None:
        """Start `count` - 1 processes that run `work` on `job`; their notes are passed to `note`."""
        context = get_context("spawn")  # a fork would inherit the threads and the CUDA context of the parent
        self._note = note
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._failure: Co2sError | RuntimeError | None = None
        self._count_lock = threading.Lock()
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

    def new_windows(self) -> int:
        """Windows done by all helpers since the last call.

        Raises:
            Co2sError, RuntimeError: a helper failed by it.
        """
        if self._failure is not None:
            raise self._failure
        with self._count_lock:
            count, self._windows = self._windows, 0
        return count

    def wait(self, step: Callable[[int], None]) -> None:
        """Wait until all helpers have done their share; `step` is called with the number of windows newly done."""
        while any(listener.is_alive() for listener in self._listeners):
            step(self.new_windows())
            time.sleep(POLL_SECONDS)
        step(self.new_windows())

    def stop(self) -> None:
        """Terminate the processes that still run; finished units stay on disk."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def _listen(self, pipe: Connection, process: BaseProcess) -> None:
        """Receive the reports of one helper until it ends."""
        while True:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                process.join()
                self._failure = self._failure or ResourceError(
                    f"a worker process ended early (exit code {process.exitcode})",
                    hint="usually memory ran out: use fewer --workers or a smaller --mem-limit; finished parts stay",
                )
                return
            if kind == "windows":
                with self._count_lock:
                    self._windows += content
            elif kind == "note":
                self._note(content)
            else:
                self._failure = self._failure or content
                return


@contextlib.contextmanager
def helpers(work: HelperWork, job: Any, count: int, note: Callable[[str], None]) -> Iterator[Helpers | None]:
    """`count` - 1 processes that run `work(job, share, report)` while this one computes; None if `count` is 1."""
    if count == 1:
        yield None
        return
    processes = Helpers(work, job, count, note)
    try:
        yield processes
    finally:
        processes.stop()


def _serve(work: HelperWork, job: Any, share: Share, pipe: Connection, verbosity: int) -> None:
    """Main function of a helper: compute the share and report its end. A helper exits when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log.setup(verbosity)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    send_lock = threading.Lock()
    failure: Co2sError | RuntimeError | None = None

    def report(kind: str, content: Any) -> None:
        with send_lock:
            pipe.send((kind, content))

    try:
        work(job, share, report)
    except Co2sError as error:
        failure = error
    except Exception:  # noqa: BLE001 - the parent raises it again
        failure = RuntimeError(f"worker {share.index}:\n{traceback.format_exc()}")
    report("end", failure)


def _end_with_parent(pipe: Connection) -> None:
    """Exit when the parent's end of the pipe closes."""
    pipe.poll(None)  # the parent never sends anything, so that the pipe gets readable only by closing
    os._exit(1)
