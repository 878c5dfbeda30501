"""What a map would take: windows, memory, disk and, after a few windows, time. Nothing is written."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from co2s_cli import tiling
from co2s_cli.config.units import show_bytes
from co2s_cli.inference.engine import Engine, repeatable
from co2s_cli.inference.mapping import BAND, Mapper, disk_needed
from co2s_cli.inference.subject import Subject
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
    bands: int
    panels: int
    lanes: int
    device: str
    precision: str
    batch: int
    memory_bytes: int
    """Of all processes, at most."""
    memory_limit: int
    disk_bytes: int
    """At most, were nothing to shrink."""
    seconds: float

    def text(self) -> str:
        """A few lines for people."""
        size = f"{self.height} × {self.width} px, {self.windows} windows of {self.tile} px, overlap {self.overlap}"
        skipped = f"skipped: {self.skipped} surely, {self.probably_skipped} probably"
        cut = f"{self.bands} bands, {self.panels} panels, {self.lanes} windows side by side"
        memory = f"memory {show_bytes(self.memory_bytes)} (limit {show_bytes(self.memory_limit)})"
        rest = f"disk at most {show_bytes(self.disk_bytes)}, about {self.seconds / 60:.1f} minutes"
        where = f"{self.device} in {self.precision}"
        return f"{self.source} → {self.out}\n  {size}\n  {skipped}\n  {cut} on {where}\n  {memory}, {rest}"


def estimate(mapper: Mapper, target: Target) -> Estimate:
    """Open the scene, run a few windows, calculate the rest."""
    subject = mapper.open(target)
    start, sizes = mapper.plan(target, subject)
    plan = subject.lattice.plan
    likely = subject.probably_blank()
    units = tiling.blocks(plan.height, plan.width, band=BAND, panel=sizes.panel)
    runs = int(subject.lattice.may.sum()) - likely
    side_by_side = sizes.lanes * mapper.workers
    return Estimate(
        source=target.source,
        out=target.out,
        height=plan.height,
        width=plan.width,
        tile=plan.tile,
        overlap=plan.overlap,
        windows=len(plan),
        skipped=len(plan) - int(subject.lattice.may.sum()),
        probably_skipped=likely,
        bands=len({unit.row for unit in units}),
        panels=len({unit.col for unit in units}),
        lanes=sizes.lanes,
        device=str(start.engine.device),
        precision=start.loaded.precision,
        batch=start.engine.batch,
        memory_bytes=sizes.expected,
        memory_limit=sizes.limit,
        disk_bytes=disk_needed(subject, mapper.product),
        seconds=runs * _seconds(start.engine, subject) / side_by_side,
    )


def _seconds(engine: Engine, subject: Subject) -> float:
    """Time of one window, reading included, in one lane."""
    plan = subject.lattice.plan
    window = plan.window(len(plan.rows) // 2, len(plan.cols) // 2)
    times = []
    with repeatable(), subject.reader() as reader:
        for _ in range(_TRIES):
            began = time.perf_counter()
            engine.run([(slot, reader.read(window).pixels) for slot in range(engine.batch)]).cpu()
            times.append((time.perf_counter() - began) / engine.batch)
    return statistics.median(times)
