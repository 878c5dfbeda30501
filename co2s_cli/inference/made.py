"""A map on its way, and what is told of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli import tiling
from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.inference.journal import Journal
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.setup import Start
from co2s_cli.inference.sizing import Sizes
from co2s_cli.inference.subject import Subject
from co2s_cli.inference.targets import Target
from co2s_cli.tiling import Window


@dataclass(frozen=True, slots=True)
class Run:
    """One scene on its way to a map."""

    target: Target
    subject: Subject
    folder: Path
    start: Start
    sizes: Sizes
    journal: Journal

    @property
    def units(self) -> list[Window]:
        """All units of work."""
        plan = self.subject.lattice.plan
        return tiling.blocks(plan.height, plan.width, band=self.journal.band, panel=self.journal.panel)


@dataclass(frozen=True, slots=True)
class Made:
    """What one map is, and how it came about."""

    source: str
    outputs: dict[str, Path]
    """Everything that was written, by name; the map is `class`."""
    state: str
    """made, resumed, or done: it was whole before."""
    pixels: dict[str, int] = field(default_factory=dict)
    """Pixels of each class, and of none ('')."""
    windows: int = 0
    """Of the whole plan."""
    read: int = 0
    """Windows that this process read."""
    ran: int = 0
    """Windows that went through the model in this process."""
    seconds: float = 0.0
    """From the first read to the closed files."""
    megapixels_per_second: float = 0.0
    waited: float = 0.0
    """Share of the running time in which the model waited for windows."""
    device: str = ""
    precision: str = ""
    batch: int = 0
    lanes: int = 0
    panel: int = 0
    memory_limit: int = 0
    notes: tuple[str, ...] = ()
    """What happened that may have changed last bits."""


def made_of(run: Run, pace: Pace, classes: ClassMap, counts: NDArray[np.int64], *, seconds: float, state: str) -> Made:
    """What is told of a run; `counts` says how often each id occurs, (256,)."""
    scene, engine = run.subject.scene, run.start.engine
    return Made(
        source=run.target.source,
        outputs=run.target.outputs,
        state=state,
        pixels={**{name: int(counts[place]) for place, name in enumerate(classes.names)}, "": int(counts[IGNORE])},
        windows=len(run.subject.lattice.plan),
        read=pace.read,
        ran=pace.ran,
        seconds=seconds,
        megapixels_per_second=scene.original.height * scene.original.width / 1e6 / max(seconds, 1e-9),
        waited=pace.waited / max(pace.seconds, 1e-9),
        device=str(engine.device),
        precision=run.start.loaded.precision,
        batch=engine.batch,
        lanes=run.sizes.lanes,
        panel=run.journal.panel,
        memory_limit=run.sizes.limit,
        notes=(Journal.read(run.folder) or run.journal).notes,
    )
