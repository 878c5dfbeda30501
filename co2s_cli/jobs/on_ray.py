"""Maps made by the actors of a Ray cluster: the only module that knows Ray.

Ray starts processes, sends calls and notices what has died. What is done next is decided by `scene_tasks`, what a call
does by `map_worker`; pixels pass through files alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import Co2sError, ConfigError, InterruptError, ResourceError, one_line
from co2s_cli.inference.mapping import MapResult
from co2s_cli.inference.memory import MAX_THREADS_GPU, Seat, cores
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.map_worker import Assignment, ContextOf, MapWorker, News, WorkerFacts
from co2s_cli.jobs.scene_tasks import SceneTasks, Task
from co2s_cli.jobs.scenes import Failure
from co2s_cli.log import verbosity
from co2s_cli.progress import Progress

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Tasks that a worker has at a time, the one that it is at included."""

NEWS_SECONDS = 1.0
"""Between two questions to a worker."""

LOOK_SECONDS = 0.2
"""For which answers are waited for at a time: Ctrl-C is noticed in between."""

WAIT_SECONDS = 60.0
"""Until it is said that no worker has started."""

MOST_FAILED_STARTS = 3
"""Workers in a row that may end before they are ready."""

_SAID_BY_EACH = ("running on ", "MALLOC_TRIM_THRESHOLD_ ")
"""How lines begin that each worker logs and that are told once."""

_STORE_BYTES = 100_000_000
"""Of Ray's object store on this machine: settings and results pass there, no pixels."""


def make_maps(
    context_of: ContextOf, settings: MapConfig, targets: Sequence[Target], progress: Progress, *, alone: bool
) -> tuple[tuple[MapResult, ...], tuple[Failure, ...]]:
    """The maps of all targets, and the scenes that failed; `alone` where the user has named only one.

    Raises:
        Co2sError: there is no cluster or no worker of it can work, or what is wrong with the only scene.
        InterruptError: Ctrl-C; what is finished stays for the next run of the same command.
    """
    if not targets:
        return (), ()
    try:
        with _cluster(settings) as ray:
            crew = _Crew(ray, context_of, settings, progress)
            tasks = SceneTasks(settings, targets, workers=crew.size)
            try:
                crew.work(tasks)
            finally:
                crew.stop()
                tasks.close()
                progress.close()
    except KeyboardInterrupt as error:
        raise InterruptError("interrupted: what is finished is kept; run the same command again to go on") from error
    if alone and tasks.errors:
        raise tasks.errors[0]
    return tasks.maps, tasks.failed


@contextlib.contextmanager
def _cluster(settings: MapConfig) -> Iterator[Any]:
    """The module `ray`, connected with the cluster of --address, or with one that lives as long as this process."""
    try:
        with _signals_kept():
            import ray
    except ImportError as error:
        raise ResourceError(
            f"--engine ray: Ray is not installed ({one_line(error)})", hint="pip install 'co2s_cli[ray]'"
        ) from error
    logging.getLogger("ray").setLevel(logging.WARNING if verbosity() > 0 else logging.ERROR)
    address = settings.address or "local"
    own: dict[str, Any] = {}
    if address == "local":
        cpus = max(settings.workers, cores(1)) if settings.workers else None  # Ray knows what a container may take
        own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        _check_answers(address)
        with _signals_kept(), _quiet_ray():
            ray.init(
                address=address,
                log_to_driver=False,
                configure_logging=False,
                **own,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise ResourceError(
            f"--address {address}: no Ray cluster can be reached there ({one_line(error)})",
            hint="start one with `ray start --head`, or leave --address out: Ray then runs on this machine",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise OSError at once where nobody listens; Ray itself asks again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; what this process does with it stays."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Processes of Ray that are started meanwhile tell nobody of their use, and get as much of the cores as others."""
    ours = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(slots=True)
class _Actor:
    """An actor, and what it was asked; all `Any` are Ray's."""

    handle: Any
    ready: Any
    """Its answer to `check`; None once that was heard."""
    facts: WorkerFacts | None = None
    tasks: deque[tuple[Any, Task]] = field(default_factory=deque)
    """The answers that are waited for, in the order in which it works."""
    news: Any = None
    rate: float = 0.0

    def waiting(self) -> list[Any]:
        """Every answer that is waited for."""
        return [ref for ref in (self.ready, self.news, *(ref for ref, _ in self.tasks)) if ref is not None]


class _Crew:
    """The actors of one command."""

    def __init__(self, ray: Any, context_of: ContextOf, settings: MapConfig, progress: Progress) -> None:
        self._ray = ray
        self._progress = progress
        self._kind, self.size, seat = _seats(ray, settings)
        wanted = {"workers": 1, "device": "cuda" if self._kind == "GPU" else _device(settings)}
        self._assignment = ray.put(
            Assignment(
                context_of,
                settings.model_copy(update=wanted),
                seat,
                Path.cwd(),
                verbosity(),
            )
        )
        self._actor = ray.remote(
            num_cpus=seat.cores,
            num_gpus=1 if self._kind == "GPU" else 0,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"news": 1},
            scheduling_strategy="SPREAD",
        )(MapWorker)
        self._actors: list[_Actor] = []
        self._first: WorkerFacts | None = None
        self._jobs: dict[int, Any] = {}
        self._failed_starts = 0
        self._refused: list[Co2sError] = []
        self._told: set[str] = set()
        self._asked = self._waited_since = time.monotonic()

    def work(self, tasks: SceneTasks) -> None:
        """Have all tasks done.

        Raises:
            Co2sError: no actor can work.
        """
        for _ in range(min(self.size, tasks.scenes_left) if tasks.whole else self.size):
            self._hire()
        if tasks.whole:
            self._progress.start("scenes", tasks.scenes_left, "scene")
        while tasks.scenes_left:
            self._hand_out(tasks)
            self._ask_for_news()
            refs = [ref for actor in self._actors for ref in actor.waiting()]
            if not refs:
                time.sleep(LOOK_SECONDS)
                continue
            done, _ = self._ray.wait(refs, num_returns=1, timeout=LOOK_SECONDS)
            for ref in done:
                self._hear(ref, tasks)
            self._tell_if_nobody_works()
        self._hear_last_news(tasks)

    def stop(self) -> None:
        """End all actors, whatever they do."""
        for actor in self._actors:
            with contextlib.suppress(Exception):  # whatever it is, the cluster ends what a driver has left
                self._ray.kill(actor.handle, no_restart=True)

    def _hire(self) -> None:
        handle = self._actor.remote(self._assignment)
        self._actors.append(_Actor(handle, handle.check.remote()))

    def _hand_out(self, tasks: SceneTasks) -> None:
        """Give work to actors that have little, one task each in turn."""
        for depth in range(IN_FLIGHT):
            for actor in self._actors:
                if actor.facts is not None and len(actor.tasks) == depth:
                    task = tasks.take()
                    if task is None:
                        return
                    actor.tasks.append((self._call(actor.handle, task, tasks), task))

    def _call(self, actor: Any, task: Task, tasks: SceneTasks) -> Any:
        """The answer of an actor, in time."""
        if task.kind == "make":
            return actor.make.remote(task.target, task.lost > 0)
        if task.kind == "begin":
            return actor.begin.remote(task.target)
        scene = tasks.job(task)
        assert scene.begun is not None
        if task.index not in self._jobs:
            self._jobs[task.index] = self._ray.put(scene.begun.job)
            windows = scene.begun.job.windows([*task.units, *scene.waiting])
            self._progress.start("windows", windows, "window", scene=task.target.source)
        job = self._jobs[task.index]
        if task.kind == "compute":
            return actor.compute.remote(job, task.units)
        del self._jobs[task.index]
        return actor.write.remote(job, scene.pace, time.monotonic() - scene.began, scene.begun.resumed)

    def _hear(self, ref: Any, tasks: SceneTasks) -> None:
        """Take one answer."""
        actor = next(actor for actor in self._actors if ref in actor.waiting())
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"a worker failed:\n{error}") from None
        except self._ray.exceptions.RayError as error:
            self._lose(actor, error, tasks)
            return
        if ref == actor.ready:
            self._take_in(actor, answer)
        elif ref == actor.news:
            actor.news = None
            self._pass_on(actor, answer, tasks)
        else:
            task = next(task for one, task in actor.tasks if one == ref)
            actor.tasks = deque(pair for pair in actor.tasks if pair[0] != ref)
            before = tasks.scenes_left
            tasks.finished(task, answer)
            if tasks.whole:
                self._progress.advance(before - tasks.scenes_left, **self._figures())

    def _take_in(self, actor: _Actor, answer: WorkerFacts | Co2sError) -> None:
        """Use an actor that is ready, if its maps are those of the first one."""
        self._failed_starts, actor.ready = 0, None
        if isinstance(answer, WorkerFacts):
            self._first = self._first or answer
            reason = answer.differs(self._first)
            if reason is None:
                actor.facts = answer
                return
            answer = ResourceError(f"{answer.host}: {reason}")
        self._actors.remove(actor)
        self._ray.kill(actor.handle, no_restart=True)
        self._refused.append(answer)
        self._warn_once(f"a worker is not used: {answer.message}")
        if not self._actors:
            raise self._refused[0]

    def _lose(self, actor: _Actor, error: Exception, tasks: SceneTasks) -> None:
        """Give the work of a dead actor back, and hire another one in its place."""
        self._actors.remove(actor)
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle, no_restart=True)
        log.debug("a worker was lost: %s", one_line(error))
        if actor.facts is None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                if not self._actors:
                    raise ResourceError(f"--engine ray: no worker can be started ({one_line(error)})")
                self._warn_once(f"workers end before they are ready, no more are started: {one_line(error)}")
                return
        else:
            name = f"{actor.facts.host}, process {actor.facts.process}"
            at = f" at {actor.tasks[0][1].target.source}" if actor.tasks else ""
            log.warning("a worker has ended (%s)%s; its work is done again", name, at)
        for place, (_, task) in enumerate(actor.tasks):
            tasks.lost(task, guilty=place == 0)
        if not tasks.whole or tasks.scenes_left > sum(len(one.tasks) for one in self._actors):
            self._hire()

    def _ask_for_news(self) -> None:
        if time.monotonic() - self._asked < NEWS_SECONDS:
            return
        self._asked = time.monotonic()
        for actor in self._actors:
            if actor.facts is not None and actor.news is None:
                actor.news = actor.handle.news.options(concurrency_group="news").remote()

    def _hear_last_news(self, tasks: SceneTasks) -> None:
        """What actors have logged of their last tasks."""
        self._asked = 0.0
        self._ask_for_news()
        asked = [actor for actor in self._actors if actor.news is not None]
        done, _ = self._ray.wait([a.news for a in asked], num_returns=len(asked), timeout=2) if asked else ([], None)
        for actor in asked:
            if actor.news in done:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._pass_on(actor, self._ray.get(actor.news), tasks)

    def _pass_on(self, actor: _Actor, news: News, tasks: SceneTasks) -> None:
        """What an actor has logged and done, to whoever watches this process."""
        actor.rate = news.rate
        for level, text in news.lines:
            if text not in self._told:
                log.log(level, "%s", text)
            self._told |= {text} if text.startswith(_SAID_BY_EACH) else set()
        if actor.tasks:
            for text in news.notes:
                tasks.note(actor.tasks[0][1], text)
        if news.windows:
            self._progress.advance(0 if tasks.whole else news.windows, **self._figures())

    def _figures(self) -> dict[str, str]:
        """What is told beside the progress."""
        working = [actor for actor in self._actors if actor.facts is not None]
        return {"Mpx/s": f"{sum(actor.rate for actor in working):.2f}", "workers": f"{len(working)}"}

    def _warn_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)

    def _tell_if_nobody_works(self) -> None:
        """Say now and then that no actor has found a place."""
        now = time.monotonic()
        if any(actor.facts for actor in self._actors):
            self._waited_since = now
        elif now - self._waited_since > WAIT_SECONDS:
            self._waited_since = now
            log.warning("no worker has started: the cluster has no free %s just now, or is starting one", self._kind)


def _device(settings: MapConfig) -> str:
    return "cpu" if settings.device == "auto" else settings.device


def _seats(ray: Any, settings: MapConfig) -> tuple[str, int, Seat]:
    """GPU or CPU, how many actors of it, and what each may take of its machine.

    Raises:
        Co2sError: the device cannot be had.
    """
    if settings.device.startswith("cuda:"):
        raise ConfigError(
            f"--device {settings.device} --engine ray: Ray hands out the GPUs",
            hint="say --device cuda, or leave it out",
        )
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (int(sum(machine.get(kind, 0) for machine in machines)) for kind in ("GPU", "CPU"))
    on_gpu = gpus > 0 and settings.device in ("auto", "cuda")
    if settings.device == "cuda" and not gpus:
        raise ResourceError("--device cuda: the cluster has no GPU", hint="use --device auto")
    workers = settings.workers or (gpus if on_gpu else cpus) or 1
    beside = min((machine.get("CPU", 0) // machine["GPU"] for machine in machines if machine.get("GPU")), default=1)
    kind, each = ("GPU", max(1, min(int(beside), MAX_THREADS_GPU))) if on_gpu else ("CPU", 1)
    on_one = max((int(machine.get(kind, 0)) for machine in machines), default=1)
    return kind, workers, Seat(each, max(1, min(workers, on_one)))
