"""Queue of the tasks of several scenes for workers; lost tasks are repeated. Independent of any cluster software.

With at least as many scenes as workers, a task is a whole scene. Otherwise each scene is split: one task plans it,
tasks compute runs of its units, and one task writes its rasters.
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
from co2s_cli.inference.map_setup import check_outputs
from co2s_cli.inference.mapping import MapResult
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.store import JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.map_worker import PlannedScene
from co2s_cli.jobs.scenes import Failure
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

RUN = 16
"""Units in a run: at 200,000² pixels 9 % of the windows are then computed twice, 83 % with single units."""

MOST_LOST = 3
"""Number of workers that ended during a task at which its scene is given up."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call to a worker."""

    kind: Literal["make", "begin", "compute", "write"]
    index: int
    """Index of the scene."""
    target: Target
    units: tuple[Window, ...] = ()
    """Units to compute."""
    lost: int = 0
    """Number of workers that ended during this task."""


@dataclass(slots=True)
class SplitScene:
    """A scene whose units several workers compute; this process holds its lock and its journal."""

    target: Target
    lock: contextlib.ExitStack
    notes: JournalNotes
    start_time: float
    """By `time.monotonic`."""
    plan: PlannedScene | None = None
    """None until a worker has planned the scene."""
    waiting: deque[Window] = field(default_factory=deque)
    """Units that are not yet given to a worker."""
    open_runs: int = 0
    """Runs of units that workers have and have not finished."""
    pace: Pace = field(default_factory=Pace)
    """Sum over the finished runs."""


class SceneTasks:
    """The tasks of several scenes, and the results of the scenes."""

    def __init__(self, settings: MapConfig, targets: Sequence[Target], *, workers: int) -> None:
        """`workers` is the number of workers; scenes are split if there are fewer scenes than that."""
        self._maps: dict[int, MapResult] = {}
        self._errors: dict[int, Co2sError] = {}
        self.whole_scenes = len(targets) >= workers
        """Whether a task is a whole scene."""
        self._settings = settings
        self._workers = workers
        self._untouched: Iterator[tuple[int, Target]] = enumerate(targets)
        self._ready: deque[Task] = deque()
        """Lost tasks to repeat, and tasks that write scenes."""
        self._split: dict[int, SplitScene] = {}
        """Split scenes that are locked, by index."""
        self._targets = targets

    @property
    def scenes_left(self) -> int:
        """Number of scenes that have neither a map nor an error yet."""
        return len(self._targets) - len(self._maps) - len(self._errors)

    @property
    def maps(self) -> tuple[MapResult, ...]:
        """The finished maps, in the order of the scenes."""
        return tuple(self._maps[index] for index in sorted(self._maps))

    @property
    def errors(self) -> tuple[Co2sError, ...]:
        """The errors of the failed scenes, in the order of the scenes."""
        return tuple(self._errors[index] for index in sorted(self._errors))

    @property
    def failed(self) -> tuple[Failure, ...]:
        """The failed scenes, in the order of the scenes."""
        return tuple(Failure.of(self._targets[n].source, self._errors[n]) for n in sorted(self._errors))

    def take(self) -> Task | None:
        """The next task; None if there is none at the moment."""
        while self._ready:
            ready = self._ready.popleft()
            if self.is_open(ready):  # its scene may have failed in the meantime
                return ready
        for index, target in self._untouched:
            task = Task("make", index, target) if self.whole_scenes else self._begin(index, target)
            if task is not None:
                return task
        return self._next_run()

    def split_scene(self, task: Task) -> SplitScene:
        """The scene of a task that computes or writes."""
        return self._split[task.index]

    def is_open(self, task: Task) -> bool:
        """Whether a task is still needed: its scene has not failed."""
        return self.whole_scenes or task.index in self._split

    def finished(self, task: Task, answer: Any) -> None:
        """Record the answer of a worker to a task."""
        if not self.is_open(task):
            return
        if isinstance(answer, Co2sError):
            self._fail(task, answer)
        elif isinstance(answer, MapResult):
            self._close(task.index, clear=task.kind == "write")
            self._maps[task.index] = answer
        elif isinstance(answer, PlannedScene):
            scene = self._split[task.index]
            scene.plan = replace(answer, job=replace(answer.job, todo=()))  # todo would be sent with each task
            scene.waiting.extend(answer.job.todo)
            self._write_if_computed(task)
        else:
            scene = self._split[task.index]
            scene.open_runs -= 1
            scene.pace = _sum(scene.pace, answer)
            self._write_if_computed(task)

    def lost(self, task: Task, *, guilty: bool) -> None:
        """Repeat a task whose worker has ended; `guilty`: the worker ended during this task, not an earlier one."""
        if not self.is_open(task):
            return
        task = replace(task, lost=task.lost + guilty)
        if task.lost < MOST_LOST:
            self._ready.append(task)
            return
        error = PartialError(
            f"{task.target.source}: given up, {task.lost} worker processes have ended while they worked on it",
            hint="usually memory ran out: use fewer --workers or a smaller --mem-limit; finished parts stay",
        )
        self._fail(task, error)

    def note(self, task: Task, text: str) -> None:
        """Add a worker's note on an event that may have changed last bits to the journal of its scene."""
        if task.index in self._split:
            self._split[task.index].notes(text)

    def close(self) -> None:
        """Release the locks of all scenes; finished parts stay."""
        for index in list(self._split):
            self._close(index)

    def _begin(self, index: int, target: Target) -> Task | None:
        """Lock a scene; returns the task that plans it, None if the scene has failed."""
        task = Task("begin", index, target)
        lock = contextlib.ExitStack()
        try:
            check_outputs(self._settings, target)
            folder = lock.enter_context(store.locked(target.out, target.folder))
        except Co2sError as error:
            self._fail(task, error)
            return None
        self._split[index] = SplitScene(target, lock, JournalNotes(folder), time.monotonic())
        return task

    def _next_run(self) -> Task | None:
        """The task of the next run of units: one below the other in one panel, fewer towards the end of all work."""
        waiting = sum(len(scene.waiting) for scene in self._split.values())
        longest = max(1, min(RUN, waiting // (2 * self._workers)))
        for index, scene in self._split.items():
            if scene.waiting:
                next_units = [scene.waiting[n] for n in range(min(longest, len(scene.waiting)))]
                run = tiling.chains(next_units)[0]
                for _ in run:
                    scene.waiting.popleft()
                scene.open_runs += 1
                return Task("compute", index, scene.target, tuple(run))
        return None

    def _write_if_computed(self, task: Task) -> None:
        scene = self._split[task.index]
        if not scene.waiting and not scene.open_runs:
            self._ready.append(Task("write", task.index, task.target))

    def _fail(self, task: Task, error: Co2sError) -> None:
        source = task.target.source
        log.error("%s: %s", source, Failure.of(source, error).text())
        self._close(task.index)
        self._errors[task.index] = error

    def _close(self, index: int, *, clear: bool = False) -> None:
        """Release the lock of a split scene; with `clear` its finished parts are removed."""
        scene = self._split.pop(index, None)
        if scene is not None:
            if clear:
                store.clear(scene.notes.folder)
            scene.lock.close()


def _sum(a: Pace, b: Pace) -> Pace:
    return Pace(a.read + b.read, a.ran + b.ran, a.seconds + b.seconds, a.waited + b.waited)
