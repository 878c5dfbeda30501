"""A worker process that makes maps, or steps of a map, for a driver; every step is a call that can be repeated."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from co2s_cli import __version__, log
from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import Co2sError, InputError, InUseError
from co2s_cli.inference import mapping
from co2s_cli.inference.map_setup import MapContext, prepare_scene
from co2s_cli.inference.mapping import MapResult
from co2s_cli.inference.model import pick_precision
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.scene_job import SceneJob, compute_units, engine_of
from co2s_cli.inference.store import JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.progress import Progress
from co2s_cli.resources import MachineShare
from co2s_cli.tiling import Window

LOCK_TRIES, LOCK_SECONDS = 24, 5.0
"""Number of attempts to take the lock of a lost worker, and pause between them: a file server keeps the lock of a dead
machine for up to two minutes."""

T = TypeVar("T")

ContextOf = Callable[[Any, Progress], MapContext]
"""Makes the context of a command from settings and a progress; a module-level function, so that it can be pickled."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a driver sends to each worker at its start."""

    context_of: ContextOf
    settings: MapConfig
    machine_share: MachineShare
    folder: Path
    """Working folder, to which relative paths refer."""
    verbosity: int


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Identity of a worker. Version, device and precision decide pixels: all workers of a command must share them."""

    host: str
    process: int
    version: str
    device: str
    precision: str

    def differs(self, other: WorkerFacts) -> str | None:
        """Why maps of this worker could differ from those of `other`; None if they cannot."""
        for name in ("version", "device", "precision"):
            if getattr(self, name) != getattr(other, name):
                return f"its {name} is {getattr(self, name)}, that of {other.host} {getattr(other, name)}"
        return None


@dataclass(frozen=True, slots=True)
class PlannedScene:
    """A worker's answer to `begin`: the job of a scene, whose units any worker can compute."""

    job: SceneJob
    resumed: bool
    """Whether unfinished work is continued."""


@dataclass(slots=True)
class News:
    """Progress, log lines and notes of a worker since the last call of `news`."""

    windows: int = 0
    """Windows newly done."""
    rate: float = 0.0
    """Speed on the current scene in Mpx/s."""
    lines: list[tuple[int, str]] = field(default_factory=list)
    """Level and text of each log record."""
    notes: list[str] = field(default_factory=list)
    """Notes for the journal of a scene whose units several workers compute."""


class MapWorker:
    """Serves the calls of a driver, one at a time; only `news` may be called meanwhile, from another thread."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._context: MapContext | None = None
        self._news = News()
        self._news_lock = threading.Lock()
        log.setup(setup.verbosity)
        logging.getLogger().handlers[:] = [_ForwardingHandler(self._keep_line)]

    def check(self) -> WorkerFacts | Co2sError:
        """Prepare for work; returns the identity of this worker, or the error why it cannot work."""
        return _result_or_error(self._check)

    def make(self, target: Target, again: bool) -> MapResult | Co2sError:
        """Make a whole map; `again`: a lost worker may already have finished it or still hold its lock."""

        def make_map() -> MapResult:
            context = self._ready_context()
            if not again:
                return mapping.make_map(context, target)
            resuming = replace(context, settings=context.settings.model_copy(update={"resume": True}))
            for _ in range(LOCK_TRIES):
                with contextlib.suppress(InUseError):
                    return mapping.make_map(resuming, target)
                time.sleep(LOCK_SECONDS)
            return mapping.make_map(resuming, target)

        return _result_or_error(make_map)

    def begin(self, target: Target) -> PlannedScene | MapResult | Co2sError:
        """Plan a map whose folder the driver has locked; a map that is complete already is the result."""

        def plan() -> PlannedScene | MapResult:
            context = self._ready_context()
            if not target.folder.is_dir():
                raise InputError(
                    f"{target.folder}: is not on {socket.gethostname()}",
                    hint="--scratch names a folder that all machines share",
                )
            scene = prepare_scene(context, target)
            begun = mapping.begin(context, target, scene, JournalNotes(target.folder))
            return begun if isinstance(begun, MapResult) else PlannedScene(begun.job, begun.resumed)

        return _result_or_error(plan)

    def compute(self, job: SceneJob, units: Sequence[Window]) -> Pace | Co2sError:
        """Compute those of `units` that are not on disk yet."""

        def compute_missing() -> Pace:
            context = self._ready_context()
            missing = [unit for unit in units if not job.parts.has(unit)]
            if not missing:
                return Pace()
            model = context.model.load(job.settings, context.device, job.precision)
            engine = engine_of(model, job.scene, job.product, batch=job.batch, note=self._note)
            return compute_units(job, engine, missing, partial(mapping.report_pace, context.progress, job))

        return _result_or_error(compute_missing)

    def write(self, job: SceneJob, pace: Pace, seconds_before: float, resumed: bool) -> MapResult | Co2sError:
        """Write the rasters of a map whose units are all finished, then its extra outputs."""

        def finish() -> MapResult:
            context = self._ready_context()
            return mapping.finish(context, job, pace=pace, seconds_before=seconds_before, resumed=resumed)

        return _result_or_error(finish)

    def news(self) -> News:
        """Progress, log lines and notes since the last call."""
        with self._news_lock:
            news, self._news = self._news, News(rate=self._news.rate)
        return news

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:  # noqa: ARG002 - of `Progress`
        """Method of `Progress`: another stage begins."""
        with self._news_lock:
            self._news.rate = 0.0

    def advance(self, count: int = 1, **facts: object) -> None:
        """Method of `Progress`: windows are done if their speed is given; other stages are ignored."""
        if "Mpx/s" in facts:
            with self._news_lock:
                self._news.windows += count
                self._news.rate = float(str(facts["Mpx/s"]))

    def close(self) -> None:
        """Method of `Progress`: the last stage has ended."""
        self.start("", 0, "")

    def _check(self) -> WorkerFacts:
        folder = self._setup.folder
        try:
            os.chdir(folder)
        except OSError as error:
            raise InputError(f"{folder}: is not on this machine ({error.strerror})") from error
        context = self._ready_context()
        return WorkerFacts(
            host=socket.gethostname(),
            process=os.getpid(),
            version=__version__,
            device=context.device.type,
            precision=pick_precision(context.settings.precision, context.device),
        )

    def _ready_context(self) -> MapContext:
        """The context of this process, made on first use."""
        if self._context is None:
            context = self._setup.context_of(self._setup.settings, self)
            self._context = replace(context, workers=1, machine_share=self._setup.machine_share)
        return self._context

    def _note(self, text: str) -> None:
        with self._news_lock:
            self._news.notes.append(text)

    def _keep_line(self, level: int, text: str) -> None:
        with self._news_lock:
            self._news.lines.append((level, text))


class _ForwardingHandler(logging.Handler):
    """Passes level and text of each log record to a function."""

    def __init__(self, forward: Callable[[int, str], None]) -> None:
        super().__init__()
        self._forward = forward

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        self._forward(record.levelno, record.getMessage())


def _result_or_error(work: Callable[[], T]) -> T | Co2sError:
    """The result of `work`, or its `Co2sError`, which a user can fix, as a value; other errors are bugs and raised."""
    try:
        return work()
    except Co2sError as error:
        return error
