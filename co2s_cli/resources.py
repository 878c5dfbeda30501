"""Cores and memory of this machine that are free for this process, and the memory that it holds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class MachineShare:
    """The part of a machine that a process and its helpers may use, if other processes make maps there too."""

    cores: int | None = None
    """Processor cores; None: all cores of the machine."""
    neighbours: int = 1
    """Number of processes, this one included, that share the machine's memory for maps."""


WHOLE_MACHINE = MachineShare()
"""The share of a process that has the machine for itself."""


def cores(workers: int, machine_share: MachineShare = WHOLE_MACHINE) -> int:
    """Cores for each of `workers` processes."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (machine_share.cores or usable) // workers)


def available(cgroups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that this process may still use, by the machine and by all control groups around it.

    Args:
        cgroups: mount point of the control groups, version 2 or 1.
        process: file with the groups of this process, one line per hierarchy: number, controllers, path.
    """
    free = [int(psutil.virtual_memory().available)]
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "":
            free += _free_in_groups(cgroups, path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            free += _free_in_groups(cgroups / "memory", path, names)
    return max(0, min(free))


def _free_in_groups(root: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """Bytes free under the limits of a group and of each group around it; in a container only `root` may exist."""
    group = root / path.strip("/")
    groups = [group, *group.parents]
    free = [_free_in_group(folder, *names) for folder in groups[: groups.index(root) + 1]] if root in groups else []
    return [count for count in free if count is not None]


def _free_in_group(folder: Path, limit_file: str, usage_file: str, cache: str) -> int | None:
    """Bytes that a group may still take, its reclaimable page cache included; None if it has no limit.

    `cache` names the entry of memory.stat that holds the reclaimable page cache.
    """
    try:
        limit = (folder / limit_file).read_text().strip()
        usage = int((folder / usage_file).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return None if limit == "max" else int(limit) - usage + int(statistics.get(cache, 0))
    except (OSError, ValueError):
        return None


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process(os.getpid()).memory_info().rss)


@contextmanager
def peak(pause: float = 0.001) -> Iterator[Callable[[], int]]:
    """Watch the resident memory of this process while the block runs, every `pause` seconds.

    The yielded function returns the peak so far, in bytes above the memory at the beginning.
    """
    at_start = highest = resident()
    ended = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not ended.is_set():
            highest = max(highest, resident())
            time.sleep(pause)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(highest, resident()) - at_start
    finally:
        ended.set()
        watcher.join()
