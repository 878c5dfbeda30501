"""A process that makes maps, or steps of a map, for a driver elsewhere: each step is a call that may be made again."""

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
from co2s_cli.inference.mapping import MapContext, MapResult
from co2s_cli.inference.memory import Seat
from co2s_cli.inference.model import pick_precision
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.scene_job import SceneJob, compute_units, engine_of
from co2s_cli.inference.store import JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.progress import Progress
from co2s_cli.tiling import Window

LOCK_TRIES, LOCK_SECONDS = 24, 5.0
"""How often and after which time the lock of a worker that was lost is tried again: a file server keeps that of a dead
machine for up to two minutes."""

T = TypeVar("T")

ContextOf = Callable[[Any, Progress], MapContext]
"""From settings and a watcher to what the maps of a command share: a function of a module, so that it can be sent."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a driver tells each worker at its start."""

    context_of: ContextOf
    settings: MapConfig
    seat: Seat
    folder: Path
    """Working folder, from which relative names count."""
    verbosity: int


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker is; the last three decide pixels, and must be the same of all workers of a command."""

    host: str
    process: int
    version: str
    device: str
    precision: str

    def differs(self, other: WorkerFacts) -> str | None:
        """Why maps of this worker would not be those of another one."""
        for name in ("version", "device", "precision"):
            if getattr(self, name) != getattr(other, name):
                return f"its {name} is {getattr(self, name)}, that of {other.host} {getattr(other, name)}"
        return None


@dataclass(frozen=True, slots=True)
class BegunElsewhere:
    """A map that a worker has begun."""

    job: SceneJob
    resumed: bool


@dataclass(slots=True)
class News:
    """What has happened in a worker since it was last asked."""

    windows: int = 0
    rate: float = 0.0
    """Mpx/s of the scene in hand."""
    lines: list[tuple[int, str]] = field(default_factory=list)
    """Level and text of what was logged."""
    notes: list[str] = field(default_factory=list)
    """For the journal of a scene whose units several workers compute."""


class MapWorker:
    """Answers calls of a driver, one at a time; `news` may be asked meanwhile, from another thread."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._context: MapContext | None = None
        self._news = News()
        self._telling = threading.Lock()
        log.setup(assignment.verbosity)
        logging.getLogger().handlers[:] = [_Kept(self._keep)]

    def check(self) -> WorkerFacts | Co2sError:
        """Prepare for work; what this worker is, or why it cannot work."""
        return _answered(self._check)

    def make(self, target: Target, again: bool) -> MapResult | Co2sError:
        """A whole map; `again` after a worker was lost that may have finished it."""

        def made() -> MapResult:
            context = self._ready()
            if not again:
                return mapping.make_map(context, target)
            resuming = replace(context, settings=context.settings.model_copy(update={"resume": True}))
            for _ in range(LOCK_TRIES):
                with contextlib.suppress(InUseError):
                    return mapping.make_map(resuming, target)
                time.sleep(LOCK_SECONDS)
            return mapping.make_map(resuming, target)

        return _answered(made)

    def begin(self, target: Target) -> BegunElsewhere | MapResult | Co2sError:
        """Begin a map whose folder the driver has locked; the result where it is whole already."""

        def begun() -> BegunElsewhere | MapResult:
            context = self._ready()
            if not target.folder.is_dir():
                raise InputError(
                    f"{target.folder}: is not on {socket.gethostname()}",
                    hint="--scratch names a folder that all machines share",
                )
            scene = mapping.prepare(context, target)
            made = mapping.begin(context, target, scene, JournalNotes(target.folder))
            return made if isinstance(made, MapResult) else BegunElsewhere(made.job, made.resumed)

        return _answered(begun)

    def compute(self, job: SceneJob, units: Sequence[Window]) -> Pace | Co2sError:
        """Compute those of some units that are not stored yet."""

        def computed() -> Pace:
            context = self._ready()
            missing = [unit for unit in units if not job.parts.has(unit)]
            if not missing:
                return Pace()
            model = context.model.load(job.settings, context.device, job.precision)
            engine = engine_of(model, job.scene, job.product, batch=job.batch, note=self._note)
            return compute_units(job, engine, missing, partial(mapping.tell_pace, context.progress, job))

        return _answered(computed)

    def write(self, job: SceneJob, pace: Pace, before: float, resumed: bool) -> MapResult | Co2sError:
        """Write the rasters of a map whose units are all there."""
        return _answered(
            lambda: mapping.finish(self._ready(), job, pace=pace, before=before, resumed=resumed),
        )

    def news(self) -> News:
        """What has happened since the last call."""
        with self._telling:
            news, self._news = self._news, News(rate=self._news.rate)
        return news

    def start(self, label: str, total: int, unit: str, *, scene: str = "") -> None:  # noqa: ARG002 - of `Progress`
        """As `Progress`: another stage."""
        with self._telling:
            self._news.rate = 0.0

    def advance(self, count: int = 1, **facts: object) -> None:
        """As `Progress`: windows are done, where their pace is told."""
        if "Mpx/s" in facts:
            with self._telling:
                self._news.windows += count
                self._news.rate = float(str(facts["Mpx/s"]))

    def close(self) -> None:
        """As `Progress`: nothing is in hand."""
        self.start("", 0, "")

    def _check(self) -> WorkerFacts:
        folder = self._assignment.folder
        try:
            os.chdir(folder)
        except OSError as error:
            raise InputError(f"{folder}: is not on this machine ({error.strerror})") from error
        context = self._ready()
        return WorkerFacts(
            host=socket.gethostname(),
            process=os.getpid(),
            version=__version__,
            device=context.device.type,
            precision=pick_precision(context.settings.precision, context.device),
        )

    def _ready(self) -> MapContext:
        """The context of this process, made when it is first asked for."""
        if self._context is None:
            context = self._assignment.context_of(self._assignment.settings, self)
            self._context = replace(context, workers=1, seat=self._assignment.seat)
        return self._context

    def _note(self, text: str) -> None:
        with self._telling:
            self._news.notes.append(text)

    def _keep(self, level: int, text: str) -> None:
        with self._telling:
            self._news.lines.append((level, text))


class _Kept(logging.Handler):
    """Hands the text of each record on."""

    def __init__(self, keep: Callable[[int, str], None]) -> None:
        super().__init__()
        self._hand_on = keep

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on."""
        self._hand_on(record.levelno, record.getMessage())


def _answered(work: Callable[[], T]) -> T | Co2sError:
    """What some work gives; an error that a user can mend is an answer, too. Other errors are bugs and go on."""
    try:
        return work()
    except Co2sError as error:
        return error
