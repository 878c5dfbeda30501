"""The work on one scene: rectangular units, computed in vertical chains, each stored as soon as it is finished."""

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
"""Rows of a unit of work, which is also the height of a block of the output."""

WRITE_QUEUE = 3
"""Maximum number of strips that wait to be stored."""


@dataclass(frozen=True, slots=True)
class SceneJob:
    """One scene, its outputs, and how its units are computed; pickled to helper processes."""

    target: Target
    scene: PreparedScene
    settings: MapConfig
    facts: dict[str, Any]
    """Everything that decides the pixels of the map; kept in the journal."""
    model: Path
    """Path of the model file."""
    product: Product
    precision: Precision
    batch: int
    """Windows in a batch."""
    memory: MemoryPlan
    folder: Path
    """Folder of the journal and of the finished units."""
    band: int
    """Rows of a unit."""
    panel: int
    """Columns of a unit."""
    todo: tuple[Window, ...] = ()
    """The units that were not finished at the start; all processes together compute them."""

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
        """The units that are not yet finished on disk."""
        parts = self.parts
        return [unit for unit in self.units if not parts.has(unit)]

    def count_windows(self, units: Sequence[Window]) -> int:
        """Number of windows to read for some units; windows shared by two chains are read, and counted, twice."""
        return sum(self.scene.lattice.count(tiling.bounding_window(chain)) for chain in tiling.chains(units))


def engine_of(
    model: LoadedModel, scene: PreparedScene, product: Product, *, batch: int = 1, note: Callable[[str], None]
) -> InferenceEngine:
    """An engine that runs a loaded model for one scene and product."""
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
    """Load the model and compute the share of a helper process."""
    device = pick_device(job.settings.device, worker=share.index, workers=share.count)
    model = load_model(job.model, job.settings, device, job.precision)
    engine = engine_of(model, job.scene, job.product, batch=job.batch, note=partial(report, "note"))
    compute_units(job, engine, share.of(job.todo), lambda count, _: report("windows", count))


def compute_units(
    job: SceneJob, engine: InferenceEngine, units: Sequence[Window], step: Callable[[int, Pace], None] = lambda *_: None
) -> Pace:
    """Compute and store some units; `step` is called with the number of windows newly done and the pace so far."""
    shared_blocks = job.scene.shared_blocks(job.memory.cache - GDAL_CACHE)
    open_reader = partial(job.scene.reader, shared_blocks)
    runner = Runner(job.scene.lattice, engine, open_reader, lanes=job.memory.lanes, threads=job.memory.threads)
    with (
        repeatable(),
        environment(job.memory.cache if shared_blocks is None else GDAL_CACHE),
        ThreadPoolExecutor(job.memory.encoders, "encoder") as encoders,
        ThreadPoolExecutor(1, "writer") as writer,
    ):
        for chain in tiling.chains(units):
            storage = _ChainStorage(job.parts, chain, encoders, count=job.memory.encoders)
            strips = runner.strips(tiling.bounding_window(chain), step=lambda count: step(count, runner.pace))
            with closing(strips):  # even after an error: reader threads would keep the process alive
                _store(strips, job.product, storage, writer)
    return runner.pace


def _store(strips: Iterator[BlendedStrip], product: Product, storage: _ChainStorage, writer: Executor) -> None:
    """Decide the planes of all strips of a chain, and store them in the writer thread."""
    for _ in ahead(lambda strip: writer.submit(storage.add, strip), _decided(strips, product), count=WRITE_QUEUE):
        pass
    storage.wait()


@dataclass(frozen=True, slots=True)
class PendingStrip:
    """A strip of output planes, possibly still being copied from the device."""

    row: int
    """First row, in the scene."""
    valid: NDArray[np.bool_]
    """(rows, columns), True = valid."""
    planes: Callable[[], dict[str, NDArray[Any]]] | None
    """Waits for the copy and returns planes (bands, rows, columns) by name; None: no pixel is valid."""


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
    """Start copying planes off the device; the returned function waits for the copies."""
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
    """Collects strips into the units of a chain; complete units are written by the threads of a pool."""

    def __init__(self, parts: Parts, chain: Sequence[Window], pool: Executor, *, count: int) -> None:
        """`count`: maximum number of complete units in memory while they are written; the memory plan assumes it."""
        self._parts = parts
        self._builder = UnitBuilder(parts.planes, chain)
        self._pool = pool
        self._count = count
        self._writes: deque[Future[None]] = deque()

    def add(self, strip: PendingStrip) -> None:
        """Add the next strip; its pixels that are not valid get the planes' blank values."""
        planes = strip.planes() if strip.planes else None
        if planes is not None and not strip.valid.all():
            for plane in self._parts.planes:
                planes[plane.name][:, ~strip.valid] = plane.blank
        for unit, complete in self._builder.add(strip.row, planes, len(strip.valid)):
            if len(self._writes) == self._count:
                self._writes.popleft().result()
            self._writes.append(self._pool.submit(self._parts.write, unit, complete))

    def wait(self) -> None:
        """Wait until all complete units are on disk; an error of their writing is raised."""
        while self._writes:
            self._writes.popleft().result()
