"""The work of one scene: units of rows and columns, computed chain by chain, each stored as it is finished."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli import tiling
from co2s_cli.config.mapping import MapConfig
from co2s_cli.geo.gdal import environment
from co2s_cli.inference.engine import InferenceEngine, repeatable
from co2s_cli.inference.memory import GDAL_CACHE, MemoryPlan
from co2s_cli.inference.model import LoadedModel, Precision, load_model, pick_device
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import Product
from co2s_cli.inference.runner import Pace, Runner, ahead
from co2s_cli.inference.stitch import BlendedStrip
from co2s_cli.inference.store import Parts, UnitBuilder, key_of
from co2s_cli.inference.targets import Target
from co2s_cli.inference.workers import Report, Share
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

BAND = 512
"""Rows of a unit of work: the height of an output's blocks."""

WRITE_QUEUE = 3
"""Strips that may wait to be stored."""


@dataclass(frozen=True, slots=True)
class SceneJob:
    """One scene, its outputs, and how its units are computed; pickled as it is to helper processes."""

    target: Target
    """The outputs."""
    scene: PreparedScene
    settings: MapConfig
    facts: dict[str, Any]
    """Everything that decides the pixels, as it is kept in the journal."""
    model: Path
    """The model file."""
    product: Product
    precision: Precision
    batch: int
    """Windows in a batch."""
    memory: MemoryPlan
    folder: Path
    """Where journal and parts lie."""
    band: int
    """Rows of a unit."""
    panel: int
    """Columns of a unit."""
    todo: tuple[Window, ...] = ()
    """The units that all processes compute together."""

    @property
    def units(self) -> list[Window]:
        """All units of the scene."""
        plan = self.scene.lattice.plan
        return tiling.blocks(plan.height, plan.width, band=self.band, panel=self.panel)

    @property
    def parts(self) -> Parts:
        """The finished units on disk."""
        return Parts(self.folder, self.product.planes, key_of(self.facts))

    def missing(self) -> list[Window]:
        """The units that are not finished."""
        parts = self.parts
        return [unit for unit in self.units if not parts.has(unit)]

    def windows(self, units: Sequence[Window]) -> int:
        """How many windows are read for some units, those at the ends of chains twice."""
        return sum(self.scene.lattice.count(tiling.bounding_window(chain)) for chain in tiling.chains(units))


def engine_of(
    model: LoadedModel, scene: PreparedScene, product: Product, *, batch: int = 1, note: Callable[[str], None]
) -> InferenceEngine:
    """The model for one scene and product."""
    return InferenceEngine(
        model.members,
        product,
        scaling=scene.scaling,
        device=model.device,
        precision=model.precision,
        batch=batch,
        note=note,
    )


def compute_share(job: SceneJob, share: Share, report: Report) -> None:
    """Compute a helper's share of a job, with a model of its own."""
    device = pick_device(job.settings.device, worker=share.index, workers=share.count)
    model = load_model(job.model, job.settings, device, job.precision)
    engine = engine_of(model, job.scene, job.product, batch=job.batch, note=partial(report, "note"))
    compute_units(job, engine, share.of(job.todo), lambda count, _: report("windows", count))


def compute_units(
    job: SceneJob, engine: InferenceEngine, units: Sequence[Window], step: Callable[[int, Pace], None] = lambda *_: None
) -> Pace:
    """Compute and store some units; `step` is told how many more windows are done, and the pace so far."""
    shared = job.scene.shared_blocks(job.memory.cache - GDAL_CACHE)
    opened = partial(job.scene.reader, shared)
    runner = Runner(job.scene.lattice, engine, opened, lanes=job.memory.lanes, threads=job.memory.threads)
    with (
        repeatable(),
        environment(job.memory.cache if shared is None else GDAL_CACHE),
        ThreadPoolExecutor(job.memory.encoders, "encoder") as encoders,
        ThreadPoolExecutor(1, "writer") as writer,
    ):
        for chain in tiling.chains(units):
            storage = _ChainStorage(job.parts, chain, encoders, count=job.memory.encoders)
            strips = runner.strips(tiling.bounding_window(chain), step=lambda count: step(count, runner.pace))
            with closing(strips):  # at once, whatever fails: reader threads would keep the process alive
                _store(strips, job.product, storage, writer)
    return runner.pace


def _store(strips: Iterator[BlendedStrip], product: Product, storage: _ChainStorage, writer: Executor) -> None:
    """Decide the planes of all strips of a chain, and store them in another thread."""
    for _ in ahead(lambda strip: writer.submit(storage.add, strip), _decided(strips, product), count=WRITE_QUEUE):
        pass
    storage.wait()


@dataclass(frozen=True, slots=True)
class PendingStrip:
    """A strip of planes that may still be on its way from the device."""

    row: int
    """First row, in the scene."""
    valid: NDArray[np.bool_]
    """(rows, columns), True = valid."""
    planes: Callable[[], dict[str, NDArray[Any]]] | None
    """Waits for the device and gives planes (bands, rows, columns) by name; None where no pixel is valid."""


def _decided(strips: Iterator[BlendedStrip], product: Product) -> Iterator[PendingStrip]:
    """Planes of each blended strip, decided on the device."""
    for strip in strips:
        if strip.blended is None:
            yield PendingStrip(strip.row, strip.valid, None)
        else:
            with torch.no_grad():
                planes = product.decide(strip.blended)
            yield PendingStrip(strip.row, strip.valid, _to_host(planes))


def _to_host(planes: Mapping[str, Tensor]) -> Callable[[], dict[str, NDArray[Any]]]:
    """Begin to copy planes off the device; the call waits for the copies."""
    if not any(plane.is_cuda for plane in planes.values()):
        return lambda: {name: plane.cpu().numpy() for name, plane in planes.items()}
    hosts = {name: torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True) for name, plane in planes.items()}
    for name, plane in planes.items():
        hosts[name].copy_(plane, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def arrays() -> dict[str, NDArray[Any]]:
        copied.synchronize()
        return {name: host.numpy() for name, host in hosts.items()}

    return arrays


class _ChainStorage:
    """Puts strips into the units of a chain; complete units are written by the threads of a pool."""

    def __init__(self, parts: Parts, chain: Sequence[Window], pool: Executor, *, count: int) -> None:
        """`count`: units that may be held while they are written; memory is planned for as many."""
        self._parts = parts
        self._builder = UnitBuilder(parts.planes, chain)
        self._pool = pool
        self._count = count
        self._writing: deque[Future[None]] = deque()

    def add(self, strip: PendingStrip) -> None:
        """Take the next strip, blank where it is not valid."""
        planes = strip.planes() if strip.planes else None
        if planes is not None and not strip.valid.all():
            for plane in self._parts.planes:
                planes[plane.name][:, ~strip.valid] = plane.blank
        for unit, complete in self._builder.add(strip.row, planes, len(strip.valid)):
            if len(self._writing) == self._count:
                self._writing.popleft().result()
            self._writing.append(self._pool.submit(self._parts.write, unit, complete))

    def wait(self) -> None:
        """Wait until all complete units are on disk; raises the error of one that is not."""
        while self._writing:
            self._writing.popleft().result()
