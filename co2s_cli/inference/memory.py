"""Memory of a map: measured with one window, then divided into panels and lanes that fit under the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError
from co2s_cli.geo.sources import is_local
from co2s_cli.geo.stac import SCENE
from co2s_cli.inference.engine import STAGES, InferenceEngine, repeatable
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.stitch import STRIP_ROWS
from co2s_cli.resources import WHOLE_MACHINE, MachineShare, available, cores, peak, resident

GRAIN = 512
"""Panel widths are multiples of this many columns; also the height of a unit and the side of an output's block."""

MARGIN = 0.06
"""Share of a limit that is left free, because allocators round up and fragment."""

DEFAULT_LIMIT = 8_000_000_000
"""Bytes that a map takes at most without --mem-limit."""

WIDE_ENOUGH = 8 * GRAIN
"""Panel width, in columns, from which few windows are computed twice: further memory first goes to more lanes."""

PANEL_BYTES = 96_000_000
"""Host memory, in bytes, up to which a panel is widened."""

SMALLEST_CACHE = 48_000_000
"""Bytes for decoded blocks if memory is short: GDAL's cache and the blocks that reading threads share."""

GDAL_CACHE = 16_000_000
"""Bytes of GDAL's own cache if the reading threads share decoded blocks; part of the cache of a plan."""

_REMOTE_READERS = 8
"""Reading threads of all processes together for a scene on a server."""

DEVICE_SHARE = 0.9
"""Share of the GPU's free memory that is used without --device-mem."""

QUEUED = 4
"""Strips of planes in memory at a time."""

MAX_THREADS, MAX_THREADS_GPU = 4, 8
"""Maximum number of reading threads, and of writing threads, for a model on the CPU and for one on a GPU."""

_SLACK = 48_000_000
"""Bytes for threads, queues and the interpreter, which nothing else counts."""

_WIDE_BLOCK = 4
"""A block of the file counts as wide if it is wider than this many windows."""

_BATCH_SHARE = 0.4
"""Share of the GPU's total memory for a batch in the model."""

_LARGEST_BATCH = 32
"""Windows in a batch at most, if its size is chosen automatically."""


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """Bytes that one process needs: a fixed part, a part per lane and a part per column of a panel."""

    base: int
    """Fixed part: libraries, model, caches, reading threads."""
    lane: int
    """Per lane: one batch in the model, with its pixels and values."""
    column: int
    """Per column of a panel: unfinished rows of the blend and units that are being filled or written."""

    def total(self, lanes: int, columns: int) -> int:
        """Bytes with `lanes` lanes and a panel of `columns` columns, margin included."""
        return math.ceil((self.base + self.lane * lanes + self.column * columns) / (1 - MARGIN))


@dataclass(frozen=True, slots=True)
class PanelFit:
    """The panel and the lanes that fit under a limit."""

    lanes: int
    """Batches that run at a time."""
    panel: int
    """Columns of a panel."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the processes of a scene use their memory."""

    limit: int
    """Bytes for this process and its helpers together."""
    lanes: int
    """Batches that run at a time in each process."""
    panel: int
    """Columns of a panel."""
    expected: int
    """Bytes that this process and its helpers are expected to take at most."""
    threads: int
    """Reading threads in each process."""
    encoders: int
    """Threads that compress and write finished units, in each process."""
    cache: int
    """Bytes for decoded blocks in each process."""
    remark: str | None
    """Message for the user if the default limit was raised."""


def pick_batch(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Windows in a batch: one on a CPU; on a GPU a power of two, as large as `_BATCH_SHARE` of its memory holds.

    It depends only on the GPU's total memory and on the peak memory of one window, so that it is the same in every run.
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
    machine_share: MachineShare = WHOLE_MACHINE,
) -> MemoryPlan:
    """Panels, lanes, threads and caches for a scene under the limits, after running one batch to measure memory.

    Raises:
        ResourceError: not even one panel fits; names the smallest limit that works.
    """
    width, cores_each = scene.lattice.plan.width, cores(workers, machine_share)
    threads = _reader_threads(scene.scene.source, cores_each, workers, engine.device.type)
    needs = _host_needs(engine, scene, threads)
    least_each = least_limit(needs, width)
    processes = workers * machine_share.neighbours
    default_limit = DEFAULT_LIMIT * machine_share.neighbours
    limit_in_force, remark = pick_limit(limit, least_each * processes, available(), default=default_limit)
    limit_each = limit_in_force // processes
    block_bytes = _blocks_bytes(scene)
    blocks_are_shared = scene.shared_blocks(block_bytes) is not None  # else each thread decodes its own
    wanted_cache = block_bytes * (1 if blocks_are_shared else threads) + GDAL_CACHE
    extra_cache = min(max(0, wanted_cache - SMALLEST_CACHE), (limit_each - least_each) // 4)
    needs = replace(needs, base=needs.base + extra_cache)
    lanes = cores_each if engine.device.type == "cpu" else 1
    encoders, needs, host_fit = _with_encoders(
        limit_each, needs, _unit_column(engine), width=width, lanes=lanes, most=threads
    )
    on_cuda = engine.device.type == "cuda"
    panel = min(host_fit.panel, _device_panel(engine, scene, device_limit) if on_cuda else max_useful_panel(needs))
    return MemoryPlan(
        limit=limit_in_force,
        lanes=host_fit.lanes,
        panel=panel,
        expected=needs.total(host_fit.lanes, panel) * workers,
        threads=threads,
        encoders=encoders,
        cache=SMALLEST_CACHE + extra_cache,
        remark=remark,
    )


def _with_encoders(
    limit: int, needs: MemoryNeeds, unit_column: int, *, width: int, lanes: int, most: int
) -> tuple[int, MemoryNeeds, PanelFit]:
    """The largest number of writing threads that costs no lane and leaves a wide enough panel; needs and fit with it.

    Args:
        limit: bytes of this process.
        needs: memory needs with one writing thread.
        unit_column: bytes of one column of a unit; each further writing thread holds a unit.
        width: columns of the scene.
        lanes: maximum number of lanes.
        most: maximum number of writing threads.
    """
    fit_with_one = fit_panel(limit, needs, width=width, lanes=lanes)
    assert fit_with_one is not None, "the smallest limit that works was checked before"
    for count in range(most, 1, -1):
        needs_with_more = replace(needs, column=needs.column + (count - 1) * unit_column)
        panel_fit = fit_panel(limit, needs_with_more, width=width, lanes=lanes)
        if panel_fit and panel_fit.lanes == fit_with_one.lanes and panel_fit.panel >= min(width, WIDE_ENOUGH):
            return count, needs_with_more, panel_fit
    return 1, needs, fit_with_one


def fit_panel(limit: int, needs: MemoryNeeds, *, width: int, lanes: int) -> PanelFit | None:
    """The most lanes, up to `lanes`, that leave room for a wide enough panel, then the widest panel with them.

    None: not even one lane with the narrowest panel fits. `width` are the columns of the scene.
    """
    for count in range(lanes, 0, -1):
        panel = _widest_panel(limit, needs, width, count)
        if panel >= min(width, WIDE_ENOUGH if count > 1 else GRAIN):
            return PanelFit(count, panel)
    return None


def least_limit(needs: MemoryNeeds, width: int) -> int:
    """The smallest limit, in bytes, under which one lane with the narrowest panel fits."""
    return needs.total(1, min(width, GRAIN))


def _widest_panel(limit: int, needs: MemoryNeeds, width: int, lanes: int) -> int:
    remaining = limit * (1 - MARGIN) - needs.base - needs.lane * lanes
    columns = int(remaining // needs.column)
    return width if columns >= width else columns // GRAIN * GRAIN


def max_useful_panel(needs: MemoryNeeds) -> int:
    """Columns beyond which a wider panel takes memory in proportion but makes a map only about a percent faster."""
    return max(WIDE_ENOUGH, PANEL_BYTES // needs.column // GRAIN * GRAIN)


def pick_limit(
    user_limit: int | None, least: int, free: int, *, default: int = DEFAULT_LIMIT
) -> tuple[int, str | None]:
    """The limit in force, and a message for the user if the default limit had to be raised.

    Without a limit of the user it is half of `free`, at most `default`, but raised to `least` if that is free.

    Args:
        user_limit: the value of --mem-limit, which is used or refused.
        least: the smallest limit that works.
        free: bytes that are available on the machine.
        default: upper bound of the limit if the user gives none.

    Raises:
        ResourceError: the user's limit is below `least`, or less than `least` is free.
    """
    if user_limit is not None:
        if user_limit < least:
            raise ResourceError(
                f"--mem-limit {show_bytes(user_limit)}: too small for one panel of this scene with this model",
                hint=f"the smallest that works is --mem-limit {rounded_up(least)}",
            )
        return user_limit, None
    limit = min(free // 2, default)
    if least <= limit:
        return limit, None
    if least > free:
        raise ResourceError(
            f"{show_bytes(free)} of memory are available, {show_bytes(least)} are needed",
            hint="use a smaller --tile, or a machine with more memory",
        )
    return least, f"memory limit raised from {show_bytes(limit)} to {show_bytes(least)}: one panel needs that much"


def rounded_up(least: int) -> str:
    """`least` as the value of a flag, plus 2 %: the libraries of the next run may take a little more."""
    return f"{math.ceil(least * 1.02 / 1e7) * 10}MB"


def _blocks_bytes(scene: PreparedScene) -> int:
    """Bytes of all decoded blocks under a row of windows if blocks are much wider than a window; else 0.

    A cache of this size saves decoding a wide block again for the next window. Blocks of usual sizes are decoded twice
    instead.
    """
    if scene.block_width <= _WIDE_BLOCK * scene.lattice.plan.tile:
        return 0
    raster = scene.scene
    rows = scene.lattice.plan.tile * raster.original.height / raster.height + GRAIN
    return int(rows * raster.original.width * len(raster.bands) * np.dtype(raster.dtype).itemsize)


def _reader_threads(source: str, cores_each: int, workers: int, device: str) -> int:
    """Reading threads of a process: at most one per core for a local file, a fixed number for a scene on a server."""
    most = MAX_THREADS_GPU if device == "cuda" else MAX_THREADS
    on_disk = is_local(source) and not source.endswith(SCENE)  # the rasters of a STAC item are mostly on servers
    return min(most, cores_each) if on_disk else max(1, _REMOTE_READERS // workers)


def _host_needs(engine: InferenceEngine, scene: PreparedScene, threads: int) -> MemoryNeeds:
    """Memory needs of this process on the host, of which the model's part is measured with one batch."""
    product, raster = engine.product, scene.scene
    tile_pixels = scene.lattice.plan.tile**2
    patch_bytes = tile_pixels * (len(raster.bands) * np.dtype(raster.dtype).itemsize + 1)
    value_bytes = tile_pixels * product.depth * 4
    plane_bytes = sum(plane.pixel_bytes for plane in product.planes)
    before = resident()
    model_peak = _host_peak(engine, scene)
    on_host = engine.device.type != "cuda"  # the memory of an MPS device is the host's
    lane_on_host = model_peak + engine.batch * 2 * (patch_bytes + value_bytes)
    return MemoryNeeds(
        base=before + SMALLEST_CACHE + _SLACK + (threads * 4 + 2 * (engine.batch - 1)) * patch_bytes + value_bytes,
        lane=lane_on_host if on_host else (STAGES + 3) * engine.batch * patch_bytes,
        column=scene.lattice.plan.tile * ((product.depth * 4 if on_host else 0) + 1)
        + 2 * _unit_column(engine)
        + STRIP_ROWS * (4 * product.depth + 24 + QUEUED * plane_bytes),
    )


def _unit_column(engine: InferenceEngine) -> int:
    """Bytes of one column of a unit, all planes together."""
    return GRAIN * sum(plane.pixel_bytes for plane in engine.product.planes)


def _sample_window(scene: PreparedScene) -> Sequence[tuple[int, NDArray[Any]]]:
    """A batch with one window of zeros, as `InferenceEngine.run` takes it."""
    tile, raster = scene.lattice.plan.tile, scene.scene
    return [(0, np.zeros((len(raster.bands), tile, tile), raster.dtype))]


def _host_peak(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Peak host memory of one batch while it runs, in bytes above the memory before it."""
    with repeatable(), peak() as peak_bytes:
        engine.run(_sample_window(scene))
        return peak_bytes()


def _device_peak(engine: InferenceEngine, scene: PreparedScene) -> int:
    """Peak memory of one batch on a CUDA device, in bytes above the memory before it."""
    torch.cuda.synchronize(engine.device)
    before = torch.cuda.memory_allocated(engine.device)
    torch.cuda.reset_peak_memory_stats(engine.device)
    with repeatable():
        engine.run(_sample_window(scene))
    torch.cuda.synchronize(engine.device)
    return int(torch.cuda.max_memory_allocated(engine.device)) - before


def _device_panel(engine: InferenceEngine, scene: PreparedScene, user_limit: int | None) -> int:
    """The widest panel whose unfinished rows fit into a CUDA device's memory together with the model and its batches.

    torch is limited to that memory: `user_limit` bytes, by default a share of what is free.
    """
    plan, depth = scene.lattice.plan, engine.product.depth
    free, total = torch.cuda.mem_get_info(engine.device)
    reserved = int(torch.cuda.memory_reserved(engine.device))
    limit = user_limit or int((free + reserved) * DEVICE_SHARE)
    value_bytes = plan.tile * plan.tile * depth * 4
    needs = MemoryNeeds(
        base=int(torch.cuda.memory_allocated(engine.device)) + _device_peak(engine, scene),
        lane=STAGES * engine.batch * value_bytes,
        column=plan.tile * depth * 4 + STRIP_ROWS * (4 * depth + 24),
    )
    device_fit = fit_panel(limit, needs, width=plan.width, lanes=1)
    if device_fit is None:
        least = rounded_up(least_limit(needs, plan.width))
        raise ResourceError(
            f"{engine.device}: {show_bytes(limit)} of its memory are too little for one panel of this scene",
            hint=f"the smallest that works is --device-mem {least}; or use a smaller --batch or --tile",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), engine.device)
    return device_fit.panel
