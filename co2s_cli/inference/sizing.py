"""What a run needs of memory, measured with one window, and what a limit leaves for panels and lanes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ResourceError
from co2s_cli.inference import budget
from co2s_cli.inference.budget import GRAIN, WIDE_ENOUGH, Needs
from co2s_cli.inference.engine import STAGES, Engine, repeatable
from co2s_cli.inference.products import Product
from co2s_cli.inference.stitch import LINES
from co2s_cli.inference.subject import Subject

_SLACK = 48_000_000
"""What threads, queues and the interpreter take beside what is counted."""

PANEL_BYTES = 96_000_000
"""What a panel takes at most on the host."""

_WIDE_BLOCK = 4
"""A block is wide from this many windows on."""

SMALLEST_CACHE = 48_000_000
"""Bytes of GDAL's block cache where memory is short."""

DEVICE_SHARE = 0.9
"""Of the device's free memory, taken where no limit is given."""

_BATCH_SHARE = 0.4
"""Of the device's whole memory, for the windows of a batch on their way through the model."""

_LARGEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a run uses its memory."""

    limit: int
    """Bytes for the whole process tree."""
    lanes: int
    panel: int
    """Columns of a panel."""
    expected: int
    """Bytes that it will take at most."""
    threads: int
    """Threads that read."""
    cache: int
    """Bytes of GDAL's block cache, in each process."""
    remark: str | None
    """Why the limit is not the usual one."""


def cores(workers: int) -> int:
    """Cores that each of some workers has for itself."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def pick_batch(engine: Engine, subject: Subject) -> int:
    """Windows in a batch: one on a CPU, on a GPU as many as suit model and device, a power of two.

    Only the device's whole memory and what one window takes decide, so that it is the same in every run.
    """
    if engine.device.type != "cuda":
        return 1
    total = torch.cuda.get_device_properties(engine.device).total_memory
    rooms = int(total * _BATCH_SHARE // max(1, _device_peak(engine, subject)))
    return int(min(_LARGEST_BATCH, 2 ** int(math.log2(max(1, rooms)))))


def pick_sizes(
    engine: Engine, subject: Subject, product: Product, *, limit: int | None, device_limit: int | None, workers: int
) -> Sizes:
    """Panels and lanes for a scene under the limits, after one window went through the model.

    Raises:
        ResourceError: not even one panel fits, with the smallest limit that works.
    """
    width, threads = subject.lattice.plan.width, min(4, cores(workers))
    needs = _host_needs(engine, subject, product, threads)
    least = budget.smallest(needs, width)
    whole, remark = budget.pick_limit(limit, least * workers, budget.available())
    each = whole // workers
    extra = min(max(0, _blocks_bytes(subject) * threads - SMALLEST_CACHE), (each - least) // 4)
    needs = replace(needs, base=needs.base + extra)
    on_host = engine.device.type == "cpu"
    fit = budget.fit(each, needs, width=width, lanes=cores(workers) if on_host else 1)
    assert fit is not None, "the smallest limit that works was checked above"
    panel = min(fit.panel, _bearable(needs) if on_host else _device_panel(engine, subject, product, device_limit))
    return Sizes(
        limit=whole,
        lanes=fit.lanes,
        panel=panel,
        expected=needs.total(fit.lanes, panel) * workers,
        threads=threads,
        cache=SMALLEST_CACHE + extra,
        remark=remark,
    )


def _bearable(needs: Needs) -> int:
    """A panel that is wide enough: with a wider one memory would grow with the scene, for a percent of speed."""
    return max(WIDE_ENOUGH, PANEL_BYTES // needs.column // GRAIN * GRAIN)


def _blocks_bytes(subject: Subject) -> int:
    """Bytes of cache that keep blocks from being decoded again by the next window, where they are much wider than one.

    Then it is all blocks under a row of windows. Blocks of the usual sizes are rather decoded a second time.
    """
    scene = subject.scene
    if subject.block_width <= _WIDE_BLOCK * subject.lattice.plan.tile:
        return 0
    rows = subject.lattice.plan.tile * scene.original.height / scene.height + GRAIN
    return int(rows * scene.original.width * len(scene.bands) * np.dtype(scene.dtype).itemsize)


def _host_needs(engine: Engine, subject: Subject, product: Product, threads: int) -> Needs:
    plan, scene = subject.lattice.plan, subject.scene
    area = plan.tile * plan.tile
    patch = area * (len(scene.bands) * np.dtype(scene.dtype).itemsize + 1)
    values = area * product.depth * 4
    planes = sum(plane.pixel_bytes for plane in product.planes)
    begin = budget.resident()
    through = _host_peak(engine, subject)
    on_host = engine.device.type == "cpu"
    return Needs(
        base=begin + SMALLEST_CACHE + _SLACK + threads * (engine.batch + 3) * patch + values,
        lane=through + engine.batch * 2 * (patch + values) if on_host else (STAGES + 3) * engine.batch * patch,
        column=plan.tile * ((product.depth * 4 if on_host else 0) + 1)
        + 2 * GRAIN * planes
        + LINES * (4 * product.depth + 24 + QUEUED * planes),
    )


QUEUED = 4
"""Strips of planes in memory at a time."""


def _window(subject: Subject) -> Sequence[tuple[int, NDArray[Any]]]:
    tile, scene = subject.lattice.plan.tile, subject.scene
    return [(0, np.zeros((len(scene.bands), tile, tile), scene.dtype))]


def _host_peak(engine: Engine, subject: Subject) -> int:
    """Bytes that one batch takes in this process on its way through the model."""
    with repeatable(), budget.peak() as most:
        engine.run(_window(subject))
        return most()


def _device_peak(engine: Engine, subject: Subject) -> int:
    """Bytes that one batch takes on the device beside the weights."""
    torch.cuda.synchronize(engine.device)
    begin = torch.cuda.memory_allocated(engine.device)
    torch.cuda.reset_peak_memory_stats(engine.device)
    with repeatable():
        engine.run(_window(subject))
    torch.cuda.synchronize(engine.device)
    return int(torch.cuda.max_memory_allocated(engine.device)) - begin


def _device_panel(engine: Engine, subject: Subject, product: Product, wanted: int | None) -> int:
    """The widest panel whose open rows fit into the device's memory beside the model and its batches."""
    plan = subject.lattice.plan
    free, total = torch.cuda.mem_get_info(engine.device)
    held = int(torch.cuda.memory_reserved(engine.device))
    limit = wanted or int((free + held) * DEVICE_SHARE)
    values = plan.tile * plan.tile * product.depth * 4
    needs = Needs(
        base=int(torch.cuda.memory_allocated(engine.device)) + _device_peak(engine, subject),
        lane=STAGES * engine.batch * values,
        column=plan.tile * product.depth * 4 + LINES * (4 * product.depth + 24),
    )
    fit = budget.fit(limit, needs, width=plan.width, lanes=1)
    if fit is None:
        least = budget.rounded_up(budget.smallest(needs, plan.width))
        raise ResourceError(
            f"{engine.device}: {show_bytes(limit)} are too little for one panel of this scene",
            hint=f"the smallest that works is --device-mem {least}; or use a smaller --batch or --tile",
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), engine.device)
    return fit.panel
