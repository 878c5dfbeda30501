"""Cores and memory of this machine that are free for this process, and the memory that it holds."""

from __future__ import annotations

import math
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


_CGROUPS, _PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Mount point of the control groups, version 2 or 1; file with the groups of this process, one line per hierarchy:
number, controllers, path."""


def cores(
    workers: int, machine_share: MachineShare = WHOLE_MACHINE, *, cgroups: Path = _CGROUPS, process: Path = _PROCESS
) -> int:
    """Cores for each of `workers` processes, by affinity and by the quotas of all control groups around them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for group, is_v2 in _groups("cpu", cgroups, process) if (quota := _quota(group, is_v2=is_v2))]
    return max(1, (machine_share.cores or math.ceil(min([usable, *quotas]))) // workers)


def available(cgroups: Path = _CGROUPS, process: Path = _PROCESS) -> int:
    """Bytes of memory that this process may still use, by the machine and by all control groups around it."""
    groups = _groups("memory", cgroups, process)
    limits = [left for group, is_v2 in groups if (left := _free_in_group(group, is_v2=is_v2)) is not None]
    return max(0, min([int(psutil.virtual_memory().available), *limits]))


def _groups(controller: str, cgroups: Path, process: Path) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups of this process and of each group around them, and whether they are of version 2.

    In a container only the root of a hierarchy may exist.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        is_v2 = controllers == ""
        if not is_v2 and controller not in controllers.split(","):
            continue
        root = cgroups if is_v2 else cgroups / controller
        group = root / path.strip("/")
        around = [group, *group.parents]
        yield from ((folder, is_v2) for folder in around[: around.index(root) + 1] if root in around)


def _quota(folder: Path, *, is_v2: bool) -> float | None:
    """Cores that a group may keep busy; None without a quota."""
    try:
        if is_v2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _free_in_group(folder: Path, *, is_v2: bool) -> int | None:
    """Bytes that a group may still take, its reclaimable page cache included; None if it has no limit."""
    limit_file, usage_file, cache = (
        ("memory.max", "memory.current", "inactive_file")
        if is_v2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
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
