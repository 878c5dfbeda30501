"""Estimate of the cost of a map: windows, memory, disk and, from a few timed windows, time. Nothing is written."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from co2s_cli import tiling
from co2s_cli.config.units import show_bytes
from co2s_cli.inference.engine import InferenceEngine, repeatable
from co2s_cli.inference.map_setup import (
    MapContext,
    check_outputs,
    disk_needed,
    pick_memory,
    prepare_scene,
    set_up_engine,
)
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.scene_job import BAND
from co2s_cli.inference.targets import Target

_TIMED_BATCHES = 3
"""Batches that are timed; their median counts."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated figures of one scene's map."""

    source: str
    out: Path
    height: int
    width: int
    tile: int
    overlap: int
    windows: int
    skipped: int
    """Windows certainly without a valid pixel: outside the area of interest, or in blocks that the file lacks."""
    probably_skipped: int
    """Further windows without a valid pixel in an overview of the scene."""
    strips: int
    """Rows of units that the scene is cut into."""
    panels: int
    """Columns of units that the scene is cut into."""
    lanes: int
    """Windows that run at a time in each process."""
    device: str
    precision: str
    batch: int
    memory_bytes: int
    """Peak of all processes together, at most."""
    memory_limit: int
    disk_bytes: int
    """At most, if nothing can be compressed."""
    seconds: float

    def text(self) -> str:
        """The figures in a few lines."""
        size = f"{self.height} × {self.width} px, {self.windows} windows of {self.tile} px, overlap {self.overlap}"
        skipped = f"windows without data, skipped: {self.skipped} certainly, {self.probably_skipped} probably"
        cut = f"{_counted(self.strips, 'strip')}, {_counted(self.panels, 'panel')}, {self.lanes} windows side by side"
        memory = f"memory {show_bytes(self.memory_bytes)} (limit {show_bytes(self.memory_limit)})"
        disk_and_time = f"disk at most {show_bytes(self.disk_bytes)}, about {self.seconds / 60:.1f} minutes"
        device = f"{self.device} in {self.precision}"
        return f"{self.source} → {self.out}\n  {size}\n  {skipped}\n  {cut} on {device}\n  {memory}, {disk_and_time}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def estimate(context: MapContext, target: Target) -> Estimate:
    """Estimate the map of one scene after running a few windows.

    Raises:
        Co2sError: as `make_map` would.
    """
    scene = prepare_scene(context, target)
    check_outputs(context.settings, target)
    engine, _ = set_up_engine(context, scene, None)
    memory = pick_memory(context, engine, scene)
    plan = scene.lattice.plan
    to_read, blank = int(scene.lattice.may_be_valid.sum()), scene.probably_blank()
    units = tiling.blocks(plan.height, plan.width, band=BAND, panel=memory.panel)
    return Estimate(
        source=target.source,
        out=target.out,
        height=plan.height,
        width=plan.width,
        tile=plan.tile,
        overlap=plan.overlap,
        windows=len(plan),
        skipped=len(plan) - to_read,
        probably_skipped=blank,
        strips=len({unit.row for unit in units}),
        panels=len({unit.col for unit in units}),
        lanes=memory.lanes,
        device=str(engine.device),
        precision=engine.precision,
        batch=engine.batch,
        memory_bytes=memory.expected,
        memory_limit=memory.limit,
        disk_bytes=disk_needed(scene, context.product),
        seconds=(to_read - blank) * _seconds_per_window(engine, scene) / (memory.lanes * context.workers),
    )


def _seconds_per_window(engine: InferenceEngine, scene: PreparedScene) -> float:
    """Seconds to read and run one window in one lane; that in the middle of the scene is timed."""
    plan = scene.lattice.plan
    window = plan.window(len(plan.rows) // 2, len(plan.cols) // 2)
    seconds = []
    with repeatable(), scene.reader() as reader:
        for _ in range(_TIMED_BATCHES):
            started = time.perf_counter()
            engine.run([(slot, reader.read(window).pixels) for slot in range(engine.batch)]).cpu()
            seconds.append((time.perf_counter() - started) / engine.batch)
    return statistics.median(seconds)
