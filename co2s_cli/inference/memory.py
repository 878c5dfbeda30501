"""How much memory a map takes, measured with one window, and the panels and lanes that a limit leaves room for."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError
from co2s_cli.geo.sources import is_local
from co2s_cli.geo.stac import SCENE
from co2s_cli.inference.engine import STAGES, InferenceEngine, repeatable
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.stitch import STRIP_ROWS

GRAIN = 512
"""Panels are cut in multiples of this, which is also the height of a unit and the side of an output's block."""

MARGIN = 0.06
"""Share of a limit that is not planned for: allocators round up and fragment."""

DEFAULT_LIMIT = 8_000_000_000

WIDE_ENOUGH = 8 * GRAIN
"""Columns from which on windows computed twice cost little: memory beyond such a panel first goes to more lanes."""

PANEL_BYTES = 96_000_000
"""Bytes that a panel takes at most on the host."""

SMALLEST_CACHE = 48_000_000
"""Bytes of decoded blocks where memory is short: GDAL's cache and what the reading threads share."""

GDAL_CACHE = 16_000_000
"""Bytes of it that are GDAL's own where threads share blocks."""

_REMOTE_READERS = 8
"""Threads of all processes that wait for the server of a scene which is an address."""

DEVICE_SHARE = 0.9
"""Share of the device's free memory that is used where no limit is given."""

QUEUED = 4
"""Strips of planes in memory at a time."""

MAX_THREADS, MAX_THREADS_GPU = 4, 8
"""Threads that read, and that write, at most, beside a model on the same processor and beside one on a GPU."""

_SLACK = 48_000_000
"""Bytes of threads, queues and the interpreter, beside what is counted."""

_WIDE_BLOCK = 4
"""A block of the file is wide from this many windows on."""

_BATCH_SHARE = 0.4
"""Share of the device's whole memory for the windows of a batch in the model."""

_LARGEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """Bytes of a run, by what they grow with."""

    base: int
    """Libraries, model, and whatever else does not grow."""
    lane: int
    """One window in the model."""
    column: int
    """One column of a panel: open rows and unfinished units."""

    def total(self, lanes: int, columns: int) -> int:
        """All of it, with the margin."""
        return math.ceil((self.base + self.lane * lanes + self.column * columns) / (1 - MARGIN))


@dataclass(frozen=True, slots=True)
class PanelFit:
    """The panel and the lanes that a limit allows."""

    lanes: int
    """Windows that run side by side."""
    panel: int
    """Columns of a panel."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the processes of a scene use their memory."""

    limit: int
    """Bytes for the whole process tree."""
    lanes: int
    """Windows that run side by side in each process."""
    panel: int
    """Columns of a panel."""
    expected: int
    """Bytes that the process tree takes at most."""
    threads: int
    """Threads that read, in each process."""
    encoders: int
    """Threads that compress and write finished units, in each process."""
    cache: int
    """Bytes of decoded blocks, in each process."""
    remark: str | None
    """Why the limit is not the usual one."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a process and its helpers may take of a machine that others use as well."""

    cores: int | None = None
    """All that the machine has where nothing is said."""
    neighbours: int = 1
    """Processes that share the memory for maps, this one included."""


def cores(workers: int, seat: Seat = Seat()) -> int:
    """Cores of each of some worker processes."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (seat.cores or usable) // workers)


def pick_batch(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Windows in a batch: one on a CPU, on a GPU a power of two that suits model and device.

    Only the device's whole memory and the peak of one window decide, so that it is the same in every run.
    """
    if engine.device.type != "cuda":
        return 1
    total = torch.cuda.get_device_properties(engine.device).total_memory
    windows = int(total * _BATCH_SHARE // max(1, _device_peak(engine, scene)))
    return int(min(_LARGEST_BATCH, 2 ** int(math.log2(max(1, windows)))))


def plan_memory(
    engine: InferenceEngine,
    scene: PreparedScene,
    *,
    limit: int | None,
    device_limit: int | None,
    workers: int,
    seat: Seat = Seat(),
) -> MemoryPlan:
    """Panels and lanes for a scene under the limits, after one batch went through the model.

    Raises:
        ResourceError: not even one panel fits, with the smallest limit that works.
    """
    width, own = scene.lattice.plan.width, cores(workers, seat)
    threads = _reader_threads(scene.scene.source, own, workers, engine.device.type)
    needs = _host_needs(engine, scene, threads)
    least = smallest(needs, width)
    sharing = workers * seat.neighbours
    whole, remark = pick_limit(limit, least * sharing, available(), usual=DEFAULT_LIMIT * seat.neighbours)
    each = whole // sharing
    blocks = _blocks_bytes(scene)
    shared = scene.shared_blocks(blocks) is not None  # else each thread decodes them for itself
    extra = min(max(0, blocks * (1 if shared else threads) + GDAL_CACHE - SMALLEST_CACHE), (each - least) // 4)
    needs = replace(needs, base=needs.base + extra)
    lanes = own if engine.device.type == "cpu" else 1
    encoders, needs, host_fit = _with_encoders(
        each, needs, _unit_column(engine), width=width, lanes=lanes, most=threads
    )
    on_cuda = engine.device.type == "cuda"
    panel = min(host_fit.panel, _device_panel(engine, scene, device_limit) if on_cuda else max_useful_panel(needs))
    return MemoryPlan(
        limit=whole,
        lanes=host_fit.lanes,
        panel=panel,
        expected=needs.total(host_fit.lanes, panel) * workers,
        threads=threads,
        encoders=encoders,
        cache=SMALLEST_CACHE + extra,
        remark=remark,
    )


def _with_encoders(
    limit: int, needs: MemoryNeeds, unit_column: int, *, width: int, lanes: int, most: int
) -> tuple[int, MemoryNeeds, PanelFit]:
    """The most threads that write units (1 to `most`) that cost no lane and leave a panel that is wide enough.

    Args:
        limit: bytes of this process.
        needs: what it needs with one such thread.
        unit_column: bytes of a column of a unit, which each further thread holds.
        width: columns of the scene.
        lanes: most lanes.
        most: most threads that write.
    """
    alone = fit(limit, needs, width=width, lanes=lanes)
    assert alone is not None, "the smallest limit that works was checked before"
    for count in range(most, 1, -1):
        more = replace(needs, column=needs.column + (count - 1) * unit_column)
        panel_fit = fit(limit, more, width=width, lanes=lanes)
        if panel_fit and panel_fit.lanes == alone.lanes and panel_fit.panel >= min(width, WIDE_ENOUGH):
            return count, more, panel_fit
    return 1, needs, alone


def fit(limit: int, needs: MemoryNeeds, *, width: int, lanes: int) -> PanelFit | None:
    """The most lanes (up to `lanes`) beside a panel that is wide enough, then the widest panel; None: nothing fits."""
    for count in range(lanes, 0, -1):
        panel = _widest_panel(limit, needs, width, count)
        if panel >= min(width, WIDE_ENOUGH if count > 1 else GRAIN):
            return PanelFit(count, panel)
    return None


def smallest(needs: MemoryNeeds, width: int) -> int:
    """The smallest limit under which anything runs."""
    return needs.total(1, min(width, GRAIN))


def _widest_panel(limit: int, needs: MemoryNeeds, width: int, lanes: int) -> int:
    left = limit * (1 - MARGIN) - needs.base - needs.lane * lanes
    columns = int(left // needs.column)
    return width if columns >= width else columns // GRAIN * GRAIN


def max_useful_panel(needs: MemoryNeeds) -> int:
    """Columns beyond which memory would grow with the scene for a percent of speed."""
    return max(WIDE_ENOUGH, PANEL_BYTES // needs.column // GRAIN * GRAIN)


def pick_limit(wanted: int | None, least: int, free: int, *, usual: int = DEFAULT_LIMIT) -> tuple[int, str | None]:
    """The limit in force, and the line that says so where it had to be raised.

    Args:
        wanted: the user's limit, which is kept or refused. Without one, half of `free`, at most `usual`, unless `least`
            is more and the machine has it.
        least: the smallest limit that works.
        free: bytes that the machine has to give.
        usual: bytes that are taken at most where nothing is said.
    """
    if wanted is not None:
        if wanted < least:
            raise ResourceError(
                f"--mem-limit {show_bytes(wanted)}: too small for one panel of this scene with this model",
                hint=f"the smallest that works is --mem-limit {rounded_up(least)}",
            )
        return wanted, None
    usual = min(free // 2, usual)
    if least <= usual:
        return usual, None
    if least > free:
        raise ResourceError(
            f"{show_bytes(free)} of memory are available, {show_bytes(least)} are needed",
            hint="use a smaller --tile, or a machine with more memory",
        )
    return least, f"memory limit raised from {show_bytes(usual)} to {show_bytes(least)}: one panel needs that much"


def rounded_up(least: int) -> str:
    """A limit as a flag takes it, 2 % above `least`: the libraries of the next run may take a little more."""
    return f"{math.ceil(least * 1.02 / 1e7) * 10}MB"


def available(cgroups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that may still be used: of the machine, and of every control group that holds this process.

    Args:
        cgroups: where the control groups are mounted, version 2 or 1.
        process: names the groups of this process, one line for each hierarchy: number, controllers, path.
    """
    left = [int(psutil.virtual_memory().available)]
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "":
            left += _left_in_groups(cgroups, path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left += _left_in_groups(cgroups / "memory", path, names)
    return max(0, min(left))


def _left_in_groups(root: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """Bytes left under the limit of a group and of each group around it; in a container only `root` may exist."""
    group = root / path.strip("/")
    groups = [group, *group.parents]
    limits = [_left_in_group(folder, *names) for folder in groups[: groups.index(root) + 1]] if root in groups else []
    return [limit for limit in limits if limit is not None]


def _left_in_group(folder: Path, limit_file: str, usage_file: str, cache: str) -> int | None:
    """Bytes that a group may still take, cache that it can give back included; None where it has no limit."""
    try:
        limit = (folder / limit_file).read_text().strip()
        usage = int((folder / usage_file).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return None if limit == "max" else int(limit) - usage + int(statistics.get(cache, 0))
    except (OSError, ValueError):
        return None


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(psutil.Process(os.getpid()).memory_info().rss)


@contextmanager
def peak(pause: float = 0.001) -> Iterator[Callable[[], int]]:
    """Watch the memory of this process while the block runs; the call gives the peak in bytes above the beginning."""
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


def _blocks_bytes(scene: PreparedScene) -> int:
    """Bytes of all blocks under a row of windows, where blocks are much wider than a window; else 0.

    With so much cache the next window does not decode them again. Blocks of the usual sizes are rather decoded twice.
    """
    if scene.block_width <= _WIDE_BLOCK * scene.lattice.plan.tile:
        return 0
    raster = scene.scene
    rows = scene.lattice.plan.tile * raster.original.height / raster.height + GRAIN
    return int(rows * raster.original.width * len(raster.bands) * np.dtype(raster.dtype).itemsize)


def _reader_threads(source: str, own: int, workers: int, device: str) -> int:
    """Threads that read a scene: bound by cores where it is a local file, else by the answers of a server."""
    most = MAX_THREADS_GPU if device == "cuda" else MAX_THREADS
    on_disk = is_local(source) and not source.endswith(SCENE)  # whose rasters mostly lie elsewhere
    return min(most, own) if on_disk else max(1, _REMOTE_READERS // workers)


def _host_needs(engine: InferenceEngine, scene: PreparedScene, threads: int) -> MemoryNeeds:
    product, raster = engine.product, scene.scene
    area = scene.lattice.plan.tile**2
    patch = area * (len(raster.bands) * np.dtype(raster.dtype).itemsize + 1)
    values = area * product.depth * 4
    planes = sum(plane.pixel_bytes for plane in product.planes)
    begin = resident()
    through = _host_peak(engine, scene)
    on_host = engine.device.type != "cuda"  # the memory of an MPS device is the host's
    return MemoryNeeds(
        base=begin + SMALLEST_CACHE + _SLACK + (threads * 4 + 2 * (engine.batch - 1)) * patch + values,
        lane=through + engine.batch * 2 * (patch + values) if on_host else (STAGES + 3) * engine.batch * patch,
        column=scene.lattice.plan.tile * ((product.depth * 4 if on_host else 0) + 1)
        + 2 * _unit_column(engine)
        + STRIP_ROWS * (4 * product.depth + 24 + QUEUED * planes),
    )


def _unit_column(engine: InferenceEngine) -> int:
    """Bytes of one column of a unit, all planes together."""
    return GRAIN * sum(plane.pixel_bytes for plane in engine.product.planes)


def _sample_window(scene: PreparedScene) -> Sequence[tuple[int, NDArray[Any]]]:
    tile, raster = scene.lattice.plan.tile, scene.scene
    return [(0, np.zeros((len(raster.bands), tile, tile), raster.dtype))]


def _host_peak(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Bytes that one batch takes in this process while it runs."""
    with repeatable(), peak() as most:
        engine.run(_sample_window(scene))
        return most()


def _device_peak(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Bytes that one batch takes on a CUDA device beside the weights."""
    torch.cuda.synchronize(engine.device)
    begin = torch.cuda.memory_allocated(engine.device)
    torch.cuda.reset_peak_memory_stats(engine.device)
    with repeatable():
        engine.run(_sample_window(scene))
    torch.cuda.synchronize(engine.device)
    return int(torch.cuda.max_memory_allocated(engine.device)) - begin


def _device_panel(engine: InferenceEngine, scene: PreparedScene, wanted: int | None) -> int:
    """The widest panel whose open rows fit into a CUDA device's memory beside the model and its batches."""
    plan, depth = scene.lattice.plan, engine.product.depth
    free, total = torch.cuda.mem_get_info(engine.device)
    held = int(torch.cuda.memory_reserved(engine.device))
    limit = wanted or int((free + held) * DEVICE_SHARE)
    values = plan.tile * plan.tile * depth * 4
    needs = MemoryNeeds(
        base=int(torch.cuda.memory_allocated(engine.device)) + _device_peak(engine, scene),
        lane=STAGES * engine.batch * values,
        column=plan.tile * depth * 4 + STRIP_ROWS * (4 * depth + 24),
    )
    device_fit = fit(limit, needs, width=plan.width, lanes=1)
    if device_fit is None:
        least = rounded_up(smallest(needs, plan.width))
        raise ResourceError(
            f"{engine.device}: {show_bytes(limit)} are too little for one panel of this scene",
            hint=f"the smallest that works is --device-mem {least}; or use a smaller --batch or --tile",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), engine.device)
    return device_fit.panel
