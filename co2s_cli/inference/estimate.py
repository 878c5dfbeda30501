"""The cost of a map: windows, memory, disk and, after a few windows, time. Nothing is written."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from co2s_cli import tiling
from co2s_cli.config.units import show_bytes
from co2s_cli.inference.engine import InferenceEngine, repeatable
from co2s_cli.inference.mapping import MapContext, check_outputs, disk_needed, pick_memory, prepare, settle
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.scene_job import BAND
from co2s_cli.inference.targets import Target

_TRIES = 3
"""Windows that are timed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The figures of one scene."""

    source: str
    out: Path
    height: int
    width: int
    tile: int
    overlap: int
    windows: int
    skipped: int
    """Windows surely without a valid pixel: outside the area, or not in the file."""
    probably_skipped: int
    """Windows that look blank in an overview."""
    strips: int
    """Rows of units that the scene is cut into."""
    panels: int
    """Columns of units."""
    lanes: int
    device: str
    precision: str
    batch: int
    memory_bytes: int
    """Of all processes, at most."""
    memory_limit: int
    disk_bytes: int
    """At most, if nothing shrinks."""
    seconds: float

    def text(self) -> str:
        """A few lines for people."""
        size = f"{self.height} × {self.width} px, {self.windows} windows of {self.tile} px, overlap {self.overlap}"
        skipped = f"skipped: {self.skipped} surely, {self.probably_skipped} probably"
        cut = f"{_counted(self.strips, 'strip')}, {_counted(self.panels, 'panel')}, {self.lanes} windows side by side"
        memory = f"memory {show_bytes(self.memory_bytes)} (limit {show_bytes(self.memory_limit)})"
        rest = f"disk at most {show_bytes(self.disk_bytes)}, about {self.seconds / 60:.1f} minutes"
        where = f"{self.device} in {self.precision}"
        return f"{self.source} → {self.out}\n  {size}\n  {skipped}\n  {cut} on {where}\n  {memory}, {rest}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def estimate(context: MapContext, target: Target) -> Estimate:
    """Open the scene, run a few windows, calculate the rest; what would be refused is refused here, too."""
    scene = prepare(context, target)
    check_outputs(context.settings, target)
    engine, _ = settle(context, scene, None)
    memory = pick_memory(context, engine, scene)
    plan = scene.lattice.plan
    possible, blank = int(scene.lattice.may.sum()), scene.probably_blank()
    units = tiling.blocks(plan.height, plan.width, band=BAND, panel=memory.panel)
    return Estimate(
        source=target.source,
        out=target.out,
        height=plan.height,
        width=plan.width,
        tile=plan.tile,
        overlap=plan.overlap,
        windows=len(plan),
        skipped=len(plan) - possible,
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
        seconds=(possible - blank) * _seconds_per_window(engine, scene) / (memory.lanes * context.workers),
    )


def _seconds_per_window(engine: InferenceEngine, scene: PreparedScene) -> float:
    """Time of one window, reading included, in one lane."""
    plan = scene.lattice.plan
    window = plan.window(len(plan.rows) // 2, len(plan.cols) // 2)
    times = []
    with repeatable(), scene.reader() as reader:
        for _ in range(_TRIES):
            began = time.perf_counter()
            engine.run([(slot, reader.read(window).pixels) for slot in range(engine.batch)]).cpu()
            times.append((time.perf_counter() - began) / engine.batch)
    return statistics.median(times)
