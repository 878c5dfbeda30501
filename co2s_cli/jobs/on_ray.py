"""Maps made by the actors of a Ray cluster: the only module that imports Ray.

Ray starts processes, carries calls and detects dead processes. `scene_tasks` decides which task comes next, and
`map_worker` does it. Pixels are exchanged only through files.
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
from co2s_cli.inference.memory import MAX_THREADS_GPU
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.map_worker import ContextOf, MapWorker, News, WorkerFacts, WorkerSetup
from co2s_cli.jobs.scene_tasks import SceneTasks, Task
from co2s_cli.jobs.scenes import Failure
from co2s_cli.log import verbosity
from co2s_cli.progress import Progress
from co2s_cli.resources import MachineShare, cores

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Tasks that an actor has at a time, the running one included."""

NEWS_SECONDS = 1.0
"""Pause between two requests for news to an actor."""

POLL_SECONDS = 0.2
"""Longest single wait for answers: Ctrl-C is noticed in between."""

WAIT_SECONDS = 60.0
"""Time without a working actor after which a warning is logged."""

MOST_FAILED_STARTS = 3
"""Number of actors in a row that ended before they were ready at which no more are started."""

_LOGGED_BY_EVERY_WORKER = ("running on ", "MALLOC_TRIM_THRESHOLD_ ")
"""Beginnings of lines that every worker logs; the driver logs them once."""

_STORE_BYTES = 100_000_000
"""Size of Ray's object store on this machine: only settings and results pass through it, no pixels."""


def make_maps(
    context_of: ContextOf, settings: MapConfig, targets: Sequence[Target], progress: Progress, *, single_scene: bool
) -> tuple[tuple[MapResult, ...], tuple[Failure, ...]]:
    """The maps of all targets, and the scenes that failed; `single_scene`: the user named only one scene.

    Raises:
        Co2sError: there is no cluster, no actor can work, or the only scene failed.
        InterruptError: Ctrl-C; finished parts stay for the next run of the same command.
    """
    if not targets:
        return (), ()
    try:
        with _cluster(settings) as ray:
            pool = _ActorPool(ray, context_of, settings, progress)
            tasks = SceneTasks(settings, targets, workers=pool.size)
            try:
                pool.work(tasks)
            finally:
                pool.stop()
                tasks.close()
                progress.close()
    except KeyboardInterrupt as error:
        raise InterruptError("interrupted: finished parts are kept; run the same command again to continue") from error
    if single_scene and tasks.errors:
        raise tasks.errors[0]
    return tasks.maps, tasks.failed


@contextlib.contextmanager
def _cluster(settings: MapConfig) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at --address, or to a local one that ends with this process."""
    try:
        with _sigterm_handler_kept():
            import ray
    except ImportError as error:
        raise ResourceError(
            f"--engine ray: Ray is not installed ({one_line(error)})", hint="pip install 'co2s_cli[ray]'"
        ) from error
    logging.getLogger("ray").setLevel(logging.WARNING if verbosity() > 0 else logging.ERROR)
    address = settings.address or "local"
    local_options: dict[str, Any] = {}
    if address == "local":
        cpus = max(settings.workers, cores(1)) if settings.workers else None  # None: Ray heeds a container's limit
        local_options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        _check_answers(address)
        with _sigterm_handler_kept(), _quiet_ray():
            ray.init(
                address=address,
                log_to_driver=False,
                configure_logging=False,
                **local_options,
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
    """Raise OSError at once if nothing listens at the address; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextlib.contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore this process's SIGTERM handler at the end of the block, since Ray installs its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray processes started in the block send no usage statistics and run with normal priority."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
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
    """An actor and its open calls. References and handles are Ray's objects, which have no types."""

    handle: Any
    ready: Any
    """Reference to the answer to `check`; None once it has arrived."""
    facts: WorkerFacts | None = None
    """None until the actor is ready for tasks."""
    tasks: deque[tuple[Any, Task]] = field(default_factory=deque)
    """References to answers with their tasks, in the order in which the actor works."""
    news: Any = None
    """Reference to the answer to `news`; None if it was not requested."""
    rate: float = 0.0
    """Last known speed in Mpx/s."""

    def open_refs(self) -> list[Any]:
        """References to all answers that have not arrived."""
        return [ref for ref in (self.ready, self.news, *(ref for ref, _ in self.tasks)) if ref is not None]


class _ActorPool:
    """The actors of one command and their tasks."""

    def __init__(self, ray: Any, context_of: ContextOf, settings: MapConfig, progress: Progress) -> None:
        self._ray = ray
        self._progress = progress
        self._resource, self.size, machine_share = _plan_actors(ray, settings)
        changes = {"workers": 1, "device": "cuda" if self._resource == "GPU" else _cpu_device(settings)}
        self._setup = ray.put(
            WorkerSetup(
                context_of,
                settings.model_copy(update=changes),
                machine_share,
                Path.cwd(),
                verbosity(),
            )
        )
        self._actor_class = ray.remote(
            num_cpus=machine_share.cores,
            num_gpus=1 if self._resource == "GPU" else 0,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"news": 1},
            scheduling_strategy="SPREAD",
        )(MapWorker)
        self._actors: list[_Actor] = []
        self._reference: WorkerFacts | None = None
        self._job_refs: dict[int, Any] = {}
        self._failed_starts = 0
        self._refused: list[Co2sError] = []
        self._logged: set[str] = set()
        self._news_time = self._last_working = time.monotonic()

    def work(self, tasks: SceneTasks) -> None:
        """Give all tasks to actors, until every scene has a map or an error.

        Raises:
            Co2sError: no actor can work.
        """
        for _ in range(min(self.size, tasks.scenes_left) if tasks.whole_scenes else self.size):
            self._start_actor()
        if tasks.whole_scenes:
            self._progress.start("scenes", tasks.scenes_left, "scene")
        while tasks.scenes_left:
            self._hand_out(tasks)
            self._request_news()
            refs = [ref for actor in self._actors for ref in actor.open_refs()]
            if not refs:
                time.sleep(POLL_SECONDS)
                continue
            done, _ = self._ray.wait(refs, num_returns=1, timeout=POLL_SECONDS)
            for ref in done:
                self._take_answer(ref, tasks)
            self._warn_if_no_actor_works()
        self._take_last_news(tasks)

    def stop(self) -> None:
        """Kill all actors, whatever they are doing."""
        for actor in self._actors:
            with contextlib.suppress(Exception):  # any error: the cluster ends the actors of a driver that has left
                self._ray.kill(actor.handle, no_restart=True)

    def _start_actor(self) -> None:
        handle = self._actor_class.remote(self._setup)
        self._actors.append(_Actor(handle, handle.check.remote()))

    def _hand_out(self, tasks: SceneTasks) -> None:
        """Give tasks to ready actors up to `IN_FLIGHT` each, first to those with none."""
        for depth in range(IN_FLIGHT):
            for actor in self._actors:
                if actor.facts is not None and len(actor.tasks) == depth:
                    task = tasks.take()
                    if task is None:
                        return
                    actor.tasks.append((self._call(actor.handle, task, tasks), task))

    def _call(self, actor: Any, task: Task, tasks: SceneTasks) -> Any:
        """Send a task to an actor; returns the reference to its answer."""
        if task.kind == "make":
            return actor.make.remote(task.target, task.lost > 0)
        if task.kind == "begin":
            return actor.begin.remote(task.target)
        scene = tasks.split_scene(task)
        assert scene.plan is not None
        if task.index not in self._job_refs:
            self._job_refs[task.index] = self._ray.put(scene.plan.job)
            windows = scene.plan.job.count_windows([*task.units, *scene.waiting])
            self._progress.start("windows", windows, "window", scene=task.target.source)
        job_ref = self._job_refs[task.index]
        if task.kind == "compute":
            return actor.compute.remote(job_ref, task.units)
        del self._job_refs[task.index]
        return actor.write.remote(job_ref, scene.pace, time.monotonic() - scene.start_time, scene.plan.resumed)

    def _take_answer(self, ref: Any, tasks: SceneTasks) -> None:
        """Take an answer that has arrived: of `check`, of `news` or of a task."""
        actor = next(actor for actor in self._actors if ref in actor.open_refs())
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"a worker failed:\n{error}") from None
        except self._ray.exceptions.RayError as error:
            self._replace_lost_actor(actor, error, tasks)
            return
        if ref == actor.ready:
            self._admit(actor, answer)
        elif ref == actor.news:
            actor.news = None
            self._pass_news_on(actor, answer, tasks)
        else:
            task = next(task for task_ref, task in actor.tasks if task_ref == ref)
            actor.tasks = deque(pair for pair in actor.tasks if pair[0] != ref)
            scenes_before = tasks.scenes_left
            tasks.finished(task, answer)
            if tasks.whole_scenes:
                self._progress.advance(scenes_before - tasks.scenes_left, **self._figures())

    def _admit(self, actor: _Actor, answer: WorkerFacts | Co2sError) -> None:
        """Accept an actor that is ready if its maps equal those of the first one; else remove it."""
        self._failed_starts, actor.ready = 0, None
        if isinstance(answer, WorkerFacts):
            self._reference = self._reference or answer
            reason = answer.differs(self._reference)
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

    def _replace_lost_actor(self, actor: _Actor, error: Exception, tasks: SceneTasks) -> None:
        """Return the tasks of a dead actor to the queue, and start another actor in its place."""
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
            scene = f" while it worked on {actor.tasks[0][1].target.source}" if actor.tasks else ""
            log.warning("a worker has ended (%s)%s; its work is repeated", name, scene)
        for position, (_, task) in enumerate(actor.tasks):
            tasks.lost(task, guilty=position == 0)
        if not tasks.whole_scenes or tasks.scenes_left > sum(len(actor.tasks) for actor in self._actors):
            self._start_actor()

    def _request_news(self) -> None:
        if time.monotonic() - self._news_time < NEWS_SECONDS:
            return
        self._news_time = time.monotonic()
        for actor in self._actors:
            if actor.facts is not None and actor.news is None:
                actor.news = actor.handle.news.options(concurrency_group="news").remote()

    def _take_last_news(self, tasks: SceneTasks) -> None:
        """Pass on what actors have logged during their last tasks."""
        self._news_time = 0.0
        self._request_news()
        actors = [actor for actor in self._actors if actor.news is not None]
        refs = [actor.news for actor in actors]
        done, _ = self._ray.wait(refs, num_returns=len(refs), timeout=2) if refs else ([], None)
        for actor in actors:
            if actor.news in done:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._pass_news_on(actor, self._ray.get(actor.news), tasks)

    def _pass_news_on(self, actor: _Actor, news: News, tasks: SceneTasks) -> None:
        """Pass the log lines, notes and progress of an actor to this process's log, journal and progress."""
        actor.rate = news.rate
        for level, text in news.lines:
            if text not in self._logged:
                log.log(level, "%s", text)
            self._logged |= {text} if text.startswith(_LOGGED_BY_EVERY_WORKER) else set()
        if actor.tasks:
            for text in news.notes:
                tasks.note(actor.tasks[0][1], text)
        if news.windows:
            self._progress.advance(0 if tasks.whole_scenes else news.windows, **self._figures())

    def _figures(self) -> dict[str, str]:
        """Figures that are shown with the progress."""
        working = [actor for actor in self._actors if actor.facts is not None]
        return {"Mpx/s": f"{sum(actor.rate for actor in working):.2f}", "workers": f"{len(working)}"}

    def _warn_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            log.warning("%s", text)

    def _warn_if_no_actor_works(self) -> None:
        """Warn every `WAIT_SECONDS` while no actor is ready."""
        now = time.monotonic()
        if any(actor.facts for actor in self._actors):
            self._last_working = now
        elif now - self._last_working > WAIT_SECONDS:
            self._last_working = now
            log.warning(
                "no worker has started: the cluster has no free %s just now, or is starting one", self._resource
            )


def _cpu_device(settings: MapConfig) -> str:
    return "cpu" if settings.device == "auto" else settings.device


def _plan_actors(ray: Any, settings: MapConfig) -> tuple[str, int, MachineShare]:
    """Resource that an actor takes (GPU or CPU), number of actors, and each one's share of its machine.

    Raises:
        Co2sError: the cluster does not have the device.
    """
    if settings.device.startswith("cuda:"):
        raise ConfigError(
            f"--device {settings.device} --engine ray: Ray chooses the GPUs",
            hint="use --device cuda, or leave --device out",
        )
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (int(sum(machine.get(kind, 0) for machine in machines)) for kind in ("GPU", "CPU"))
    on_gpu = gpus > 0 and settings.device in ("auto", "cuda")
    if settings.device == "cuda" and not gpus:
        raise ResourceError("--device cuda: the cluster has no GPU", hint="use --device auto")
    workers = settings.workers or (gpus if on_gpu else cpus) or 1
    cpus_per_gpu = min((node.get("CPU", 0) // node["GPU"] for node in machines if node.get("GPU")), default=1)
    resource, actor_cores = ("GPU", max(1, min(int(cpus_per_gpu), MAX_THREADS_GPU))) if on_gpu else ("CPU", 1)
    most_on_one_machine = max((int(machine.get(resource, 0)) for machine in machines), default=1)
    return resource, workers, MachineShare(actor_cores, max(1, min(workers, most_on_one_machine)))
