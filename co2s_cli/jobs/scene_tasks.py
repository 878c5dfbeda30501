"""Which work of several scenes comes next, and what becomes of work that was lost; knows no cluster.

A task is a whole scene where there are at least as many scenes as workers. Else scenes are begun, computed by runs of
units and written, each step a task.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from co2s_cli import tiling
from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import Co2sError, PartialError
from co2s_cli.inference import store
from co2s_cli.inference.mapping import MapResult, check_outputs
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.store import JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.map_worker import BegunElsewhere
from co2s_cli.jobs.scenes import Failure
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

RUN = 16
"""Units of a run: at 200,000² pixels 9 % of the windows are then computed twice, 83 % with single units."""

MOST_LOST = 3
"""Workers that a task may take down before its scene is put aside."""


@dataclass(frozen=True, slots=True)
class Task:
    """A step that one worker does."""

    kind: Literal["make", "begin", "compute", "write"]
    index: int
    """Of the scene."""
    target: Target
    units: tuple[Window, ...] = ()
    lost: int = 0
    """Workers that were lost with it."""


@dataclass(slots=True)
class SplitScene:
    """A scene whose units several workers compute; this process holds its lock and its journal."""

    target: Target
    locked: contextlib.ExitStack
    notes: JournalNotes
    began: float
    begun: BegunElsewhere | None = None
    waiting: deque[Window] = field(default_factory=deque)
    """Units that no worker has yet."""
    open: int = 0
    """Runs that workers have."""
    pace: Pace = field(default_factory=Pace)


class SceneTasks:
    """The tasks of several scenes, and what has become of the scenes."""

    def __init__(self, settings: MapConfig, targets: Sequence[Target], *, workers: int) -> None:
        """`workers`: how many are wanted, by which it is decided whether scenes are split."""
        self._maps: dict[int, MapResult] = {}
        self._errors: dict[int, Co2sError] = {}
        self.whole = len(targets) >= workers
        self._settings = settings
        self._workers = workers
        self._fresh: Iterator[tuple[int, Target]] = enumerate(targets)
        self._again: deque[Task] = deque()
        self._split: dict[int, SplitScene] = {}
        self._targets = targets

    @property
    def scenes_left(self) -> int:
        """Scenes that are neither made nor have failed."""
        return len(self._targets) - len(self._maps) - len(self._errors)

    @property
    def maps(self) -> tuple[MapResult, ...]:
        """What was made, in the order of the scenes."""
        return tuple(self._maps[index] for index in sorted(self._maps))

    @property
    def errors(self) -> tuple[Co2sError, ...]:
        """Why scenes failed, in their order."""
        return tuple(self._errors[index] for index in sorted(self._errors))

    @property
    def failed(self) -> tuple[Failure, ...]:
        """The scenes that failed, in their order."""
        return tuple(Failure.of(self._targets[n].source, self._errors[n]) for n in sorted(self._errors))

    def take(self) -> Task | None:
        """The next task; None where there is none just now."""
        while self._again:
            lost = self._again.popleft()
            if self.is_open(lost):  # its scene may have failed since
                return lost
        for index, target in self._fresh:
            task = Task("make", index, target) if self.whole else self._begin(index, target)
            if task is not None:
                return task
        return self._run()

    def job(self, task: Task) -> SplitScene:
        """The scene of a task that computes or writes."""
        return self._split[task.index]

    def is_open(self, task: Task) -> bool:
        """Whether anybody waits for a task: its scene has not failed."""
        return self.whole or task.index in self._split

    def finished(self, task: Task, answer: Any) -> None:
        """Take the answer of a worker."""
        if not self.is_open(task):
            return
        if isinstance(answer, Co2sError):
            self._fail(task, answer)
        elif isinstance(answer, MapResult):
            self._close(task.index, clear=task.kind == "write")
            self._maps[task.index] = answer
        elif isinstance(answer, BegunElsewhere):
            scene = self._split[task.index]
            scene.begun = replace(answer, job=replace(answer.job, todo=()))  # which would travel with each task
            scene.waiting.extend(answer.job.todo)
            self._write_if_computed(task)
        else:
            scene = self._split[task.index]
            scene.open -= 1
            scene.pace = _sum(scene.pace, answer)
            self._write_if_computed(task)

    def lost(self, task: Task, *, guilty: bool) -> None:
        """Do a task again that was lost with its worker; `guilty` where the worker was at it."""
        if not self.is_open(task):
            return
        task = replace(task, lost=task.lost + guilty)
        if task.lost < MOST_LOST:
            self._again.append(task)
            return
        error = PartialError(
            f"{task.target.source}: put aside, {task.lost} worker processes have ended while they were at it",
            hint="mostly memory ran out: use fewer --workers or a smaller --mem-limit; finished parts are kept",
        )
        self._fail(task, error)

    def note(self, task: Task, text: str) -> None:
        """Keep what may have changed last bits in the journal of a task's scene."""
        if task.index in self._split:
            self._split[task.index].notes(text)

    def close(self) -> None:
        """Release the locks of all scenes; finished parts stay."""
        for index in list(self._split):
            self._close(index)

    def _begin(self, index: int, target: Target) -> Task | None:
        """Lock a scene; the task that begins it, None where it failed."""
        task = Task("begin", index, target)
        locked = contextlib.ExitStack()
        try:
            check_outputs(self._settings, target)
            folder = locked.enter_context(store.locked(target.out, target.folder))
        except Co2sError as error:
            self._fail(task, error)
            return None
        self._split[index] = SplitScene(target, locked, JournalNotes(folder), time.monotonic())
        return task

    def _run(self) -> Task | None:
        """The next run of units: right below one another in one panel, shorter towards the end of all work."""
        waiting = sum(len(scene.waiting) for scene in self._split.values())
        most = max(1, min(RUN, waiting // (2 * self._workers)))
        for index, scene in self._split.items():
            if scene.waiting:
                first = [scene.waiting[n] for n in range(min(most, len(scene.waiting)))]
                run = tiling.chains(first)[0]
                for _ in run:
                    scene.waiting.popleft()
                scene.open += 1
                return Task("compute", index, scene.target, tuple(run))
        return None

    def _write_if_computed(self, task: Task) -> None:
        scene = self._split[task.index]
        if not scene.waiting and not scene.open:
            self._again.append(Task("write", task.index, task.target))

    def _fail(self, task: Task, error: Co2sError) -> None:
        source = task.target.source
        log.error("%s: %s", source, Failure.of(source, error).text())
        self._close(task.index)
        self._errors[task.index] = error

    def _close(self, index: int, *, clear: bool = False) -> None:
        """Release the lock of a scene that was split; with `clear` its parts are not needed any more."""
        scene = self._split.pop(index, None)
        if scene is not None:
            if clear:
                store.clear(scene.notes.folder)
            scene.locked.close()


def _sum(one: Pace, other: Pace) -> Pace:
    return Pace(one.read + other.read, one.ran + other.ran, one.seconds + other.seconds, one.waited + other.waited)
