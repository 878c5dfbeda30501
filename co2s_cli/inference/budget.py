"""How wide a panel and how many lanes a memory limit allows. Arithmetic, but for the measuring at the end."""

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

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError

GRAIN = 512
"""Panels are cut in multiples of this, which is also the height of a unit and the side of an output's block."""

MARGIN = 0.06
"""Share of a limit that is left alone: allocators round up and fragment."""

DEFAULT_LIMIT = 8_000_000_000

WIDE_ENOUGH = 8 * GRAIN
"""A panel of this width wastes little on windows computed twice; only what is left beyond it goes to more lanes."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a run, by what they grow with."""

    base: int
    """Libraries and model, and whatever else does not grow."""
    lane: int
    """One window on its way through the model."""
    column: int
    """One column of a panel: open rows and units under way."""

    def total(self, lanes: int, columns: int) -> int:
        """All of it, with the margin."""
        return math.ceil((self.base + self.lane * lanes + self.column * columns) / (1 - MARGIN))


@dataclass(frozen=True, slots=True)
class Fit:
    """What a limit allows."""

    lanes: int
    """Windows that run side by side."""
    panel: int
    """Columns of a panel."""


def fit(limit: int, needs: Needs, *, width: int, lanes: int) -> Fit | None:
    """The most lanes (up to `lanes`) beside a panel of bearable width, then the widest panel; None = nothing fits."""
    for count in range(lanes, 0, -1):
        panel = _widest(limit, needs, width, count)
        if panel >= min(width, WIDE_ENOUGH if count > 1 else GRAIN):
            return Fit(count, panel)
    return None


def smallest(needs: Needs, width: int) -> int:
    """The smallest limit under which anything runs."""
    return needs.total(1, min(width, GRAIN))


def _widest(limit: int, needs: Needs, width: int, lanes: int) -> int:
    left = limit * (1 - MARGIN) - needs.base - needs.lane * lanes
    columns = int(left // needs.column)
    return width if columns >= width else columns // GRAIN * GRAIN


def pick_limit(wanted: int | None, least: int, available: int) -> tuple[int, str | None]:
    """The limit in force and, where it had to be raised, the line that says so.

    `wanted`: the user's limit, kept or refused. Without one, half of the `available` memory, at most 8 GB, unless
    the `least` that works is more and the machine has it.
    """
    if wanted is not None:
        if wanted < least:
            raise ResourceError(
                f"--mem-limit {show_bytes(wanted)}: too small for one panel of this scene with this model",
                hint=f"the smallest that works is --mem-limit {rounded_up(least)}",
            )
        return wanted, None
    usual = min(available // 2, DEFAULT_LIMIT)
    if least <= usual:
        return usual, None
    if least > available:
        raise ResourceError(
            f"{show_bytes(available)} of memory are available, {show_bytes(least)} are needed",
            hint="use a smaller --tile, or a machine with more memory",
        )
    return least, f"memory limit raised from {show_bytes(usual)} to {show_bytes(least)}: one panel needs that much"


def rounded_up(least: int) -> str:
    """A limit that still works when the next run's libraries take a little more, as one writes it."""
    return f"{math.ceil(least * 1.02 / 1e7) * 10}MB"


def available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that are free to be used, by the machine and, where there is one, by the container's limit."""
    free = int(psutil.virtual_memory().available)
    try:
        most = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines()).get("inactive_file", 0)
    except (OSError, ValueError):
        return free
    return free if most == "max" else max(0, min(free, int(most) - used + int(cache)))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(psutil.Process(os.getpid()).memory_info().rss)


@contextmanager
def peak(pause: float = 0.001) -> Iterator[Callable[[], int]]:
    """Watch how much this process holds at most while the block runs; the call gives bytes above the beginning."""
    begin = most = resident()
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, resident())
            time.sleep(pause)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(most, resident()) - begin
    finally:
        over.set()
        watcher.join()
