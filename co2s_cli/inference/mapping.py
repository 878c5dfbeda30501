"""One map of one scene: check, prepare, begin or continue, compute what is missing, write the rasters, tidy up.

The functions stand in the order in which they run.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli import __version__
from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.cloud import stored_attributes
from co2s_cli.config.mapping import MapConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import Co2sError, OutputError
from co2s_cli.geo.checksum import checksum_holds
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.write.raster import cog_options
from co2s_cli.inference import store
from co2s_cli.inference.assembly import write_rasters
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.inference.memory import MemoryPlan, Seat, pick_batch, plan_memory
from co2s_cli.inference.model import ModelFile, pick_device, pick_precision
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import Product
from co2s_cli.inference.publishing import MISSING, OTHERWISE, publish, published_problem
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.scene_job import BAND, SceneJob, compute_share, compute_units, engine_of
from co2s_cli.inference.store import Journal, JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.inference.workers import Share, helpers
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)

KEY_TAG = "CO2S_KEY"

_HIDDEN = ("scene", "validity", "area")
"""Facts of a scene that are digests or name paths: left out of messages and of the tag in the raster."""


def _nothing(target: Target, scene: PreparedScene, missing: Collection[str] = ()) -> None:
    """Do nothing: the default where neither polygons nor a picture are wanted."""


@dataclass(frozen=True, slots=True)
class Beside:
    """How further outputs are made of a finished map: polygons, a picture."""

    check: Callable[[Target, PreparedScene], None] = _nothing
    """Refuses, before any compute, what could not be made."""
    make: Callable[[Target, PreparedScene, Collection[str]], None] = _nothing
    """Makes those of them that are named, of the finished map."""


@dataclass(frozen=True, slots=True)
class MapContext:
    """What the maps of all scenes of a command share."""

    settings: MapConfig
    model: ModelFile
    product: Product
    device: torch.device
    """Of this process."""
    workers: int
    """Processes that share a scene."""
    creation: Mapping[str, str]
    """Checked options of the COG driver."""
    progress: Progress
    beside: Beside
    seat: Seat = field(default_factory=Seat)
    """What this process and its helpers may take of the machine."""

    @classmethod
    def of(
        cls,
        settings: MapConfig,
        model: ModelFile,
        product: Product,
        *,
        progress: Progress = SILENT,
        beside: Beside = Beside(),
    ) -> MapContext:
        """The context under some settings; without --workers one process per GPU, unless --device names one GPU.

        Raises:
            Co2sError: the device or a creation option is not possible.
        """
        if "MALLOC_TRIM_THRESHOLD_" in os.environ:
            log.warning("MALLOC_TRIM_THRESHOLD_ is set on %s, which doubles the time of a map: unset it", gethostname())
        device = pick_device(settings.device, workers=settings.workers or 1)
        any_gpu = settings.device in ("auto", "cuda") and device.type == "cuda"
        workers = settings.workers or (torch.cuda.device_count() if any_gpu else 1)
        return cls(settings, model, product, device, workers, cog_options(settings.co), progress, beside)


@dataclass(frozen=True, slots=True)
class MapResult:
    """One map and figures of how it was made."""

    source: str
    outputs: dict[str, Path]
    """The outputs on this machine by name; the map is `class`."""
    state: str
    """made, resumed, or done: it was whole before."""
    addresses: dict[str, str] = field(default_factory=dict)
    """The outputs in object storage by name."""
    pixels: dict[str, int] = field(default_factory=dict)
    """Pixels of each class by name."""
    pixels_without_class: int = 0
    """Pixels that are no data, outside of the area, or not sure enough."""
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
    """Events that may have changed the last bits of probabilities, such as a batch that had to be halved."""

    @property
    def out(self) -> str:
        """Path or address of the map."""
        return self.addresses.get("class") or str(self.outputs["class"])


@dataclass(frozen=True, slots=True)
class BegunMap:
    """A map whose units can be computed by any process, with the engine of the process that has begun it."""

    job: SceneJob
    engine: InferenceEngine
    resumed: bool
    """Whether unfinished work goes on."""


def make_map(context: MapContext, target: Target) -> MapResult:
    """Make the map of one scene, or continue it, and what is wanted beside it.

    Raises:
        Co2sError: what is wrong with scene, outputs or memory; finished parts stay for the next run.
    """
    check_outputs(context.settings, target)
    scene = prepare(context, target)
    with store.locked(target.out, target.folder) as folder:
        notes = JournalNotes(folder)
        begun = begin(context, target, scene, notes)
        if isinstance(begun, MapResult):
            return begun
        began = time.perf_counter()
        pace = _compute(context, begun.job, begun.engine, notes)
        result = finish(context, begun.job, pace=pace, before=time.perf_counter() - began, resumed=begun.resumed)
        store.clear(folder)
        return result


def begin(context: MapContext, target: Target, scene: PreparedScene, notes: JournalNotes) -> BegunMap | MapResult:
    """Settle how the map is made, in its locked folder; the result where it is done before.

    Raises:
        Co2sError: the outputs exist, unfinished work has other settings, or memory or disk do not suffice.
    """
    settings, folder = context.settings, notes.folder
    journal = Journal.read(folder)
    engine, facts = settle(context, scene, journal, notes)
    if journal is None and settings.resume and _is_there(target, CLASS) and _is_done(context, target, facts):
        return _complete(context, target, scene)
    if journal is not None and journal.key != store.key_of(facts):
        _drop(context, folder, journal, facts)
        journal, (engine, facts) = None, settle(context, scene, None, notes)
    if journal is None:
        target.check(overwrite=settings.overwrite)
    job = _begin(context, target, scene, engine=engine, facts=facts, journal=journal, notes=notes)
    return BegunMap(job, engine, journal is not None)


def finish(context: MapContext, job: SceneJob, *, pace: Pace, before: float, resumed: bool) -> MapResult:
    """Write the rasters of a job whose units are all there, then what is wanted beside them.

    Args:
        context: of this process.
        job: all of its units are finished.
        pace: of the computing.
        before: seconds that the map has taken so far.
        resumed: whether unfinished work went on.
    """
    began = time.perf_counter()
    job.target.make_folders()  # an earlier try may have uploaded some outputs and removed them here
    counts = _write(context, job)
    seconds = before + time.perf_counter() - began
    state = "resumed" if resumed else "made"
    result = _result(context, job, pace=pace, counts=counts, seconds=seconds, state=state)
    log.info("%s: %s in %.1f s (%.2f Mpx/s)", job.target.named[CLASS], state, seconds, result.megapixels_per_second)
    if not any(result.pixels.values()):
        log.warning(
            "%s: no pixel has a class: either none is valid, or none as sure as --min-confidence asks, or the model's "
            "numbers overflow (--precision fp32 may help)",
            job.target.named[CLASS],
        )
    _make_beside(context, job.target, job.scene)
    return result


def check_outputs(settings: MapConfig, target: Target) -> None:
    """Refuse outputs that exist, unless the settings or unfinished work allow for them."""
    if not (settings.overwrite or settings.resume or target.folder.exists()):
        target.check(overwrite=False)


def prepare(context: MapContext, target: Target) -> PreparedScene:
    """The scene, checked against model, settings and what is wanted beside the map; remarks on it are logged."""
    scene = PreparedScene.open(target.source, context.model.manifest, context.settings)
    context.beside.check(target, scene)
    for remark in scene.remarks(context.model.manifest):
        log.warning("%s", remark)
    return scene


def settle(
    context: MapContext, scene: PreparedScene, journal: Journal | None, note: Callable[[str], None] = log.warning
) -> tuple[InferenceEngine, dict[str, Any]]:
    """The engine of a scene, and all facts that decide the map's pixels.

    Precision and batch come from the settings, else from the journal of unfinished work, else from rules.
    """
    settings, product = context.settings, context.product
    before = journal.facts if journal and journal.facts.get("device") == context.device.type else {}
    wanted = before.get("precision", "auto") if settings.precision == "auto" else settings.precision
    model = context.model.load(settings, context.device, pick_precision(wanted, context.device))
    engine = engine_of(model, scene, product, note=note)
    engine.set_batch(int(settings.batch or before.get("batch") or pick_batch(engine, scene)))
    facts = {
        "version": __version__,
        "model": model.digest,
        **scene.facts(),
        "product": repr(product),
        "tta": settings.tta,
        "device": context.device.type,
        "precision": model.precision,
        "batch": engine.batch,
        "threads": 1,
        "compile": settings.compile,
    }
    return engine, facts


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that mean something to a reader."""
    return {name: value for name, value in facts.items() if name not in _HIDDEN}


def _is_done(context: MapContext, target: Target, facts: Mapping[str, Any]) -> bool:
    """Whether there is a map and all rasters are whole and those that would be made; others must be allowed to go."""
    key, rasters = store.key_of(facts), {plane.name for plane in context.product.planes}
    for name in target.outputs if CLASS in target.addresses else rasters & target.outputs.keys():
        problem = _problem(target, name, key)
        if problem and not context.settings.overwrite:
            hint = "add --overwrite to make it anew, or choose another name"
            raise OutputError(f"{target.named[name]}: {problem}", hint=hint)
        if problem:
            return False
    return True


def _is_there(target: Target, name: str) -> bool:
    """Whether there is an output, whatever it is."""
    address = target.addresses.get(name)
    return target.outputs[name].exists() if address is None else stored_attributes(address) is not None


def _problem(target: Target, name: str, key: str) -> str | None:
    """What keeps an output from being done; None where it is whole and was made under `key`."""
    path = target.outputs[name]
    if name in target.addresses:
        return published_problem(target.addresses[name], key)
    if not path.exists():
        return MISSING
    if name in ("vector", "preview", "stac"):
        return None
    if not checksum_holds(path):
        return "does not match its own checksum, so it is damaged or was changed after it was made"
    with reading(str(path)) as dataset:
        same = dataset.tags().get(KEY_TAG) == key
    return None if same else OTHERWISE


def _complete(context: MapContext, target: Target, scene: PreparedScene) -> MapResult:
    """A map that is done: what is missing beside it is made of it."""
    if CLASS not in target.addresses:
        target.make_folders()
        _make_beside(context, target, scene, {name for name in target.beside if not _is_there(target, name)})
    return MapResult(target.source, target.kept, "done", target.addresses)


def _drop(context: MapContext, folder: Path, journal: Journal, facts: Mapping[str, Any]) -> None:
    """Remove unfinished work with other settings, if --overwrite allows that."""
    changes = [
        f"{name} was {journal.facts.get(name)}, is {value}"
        for name, value in _shown(facts).items()
        if journal.facts.get(name) != value
    ]
    if not context.settings.overwrite:
        raise OutputError(
            f"{folder}: unfinished work made otherwise ({'; '.join(changes[:3]) or 'from another scene'})",
            hint="continue with the settings it was begun with, or add --overwrite to begin anew",
        )
    store.clear(folder)


def _begin(
    context: MapContext,
    target: Target,
    scene: PreparedScene,
    *,
    engine: InferenceEngine,
    facts: dict[str, Any],
    journal: Journal | None,
    notes: JournalNotes,
) -> SceneJob:
    """Fit the work into memory, and write down how the scene is cut into units."""
    memory = pick_memory(context, engine, scene)
    width = scene.lattice.plan.width
    keep = journal is not None and (journal.panel <= memory.panel or memory.panel >= width)
    panel = journal.panel if journal is not None and keep else memory.panel
    journal = replace(journal, panel=panel) if journal is not None else Journal(facts, BAND, panel)
    target.make_folders()
    target.check_disk(disk_needed(scene, context.product))
    job = SceneJob(
        target=target,
        scene=scene,
        settings=context.settings,
        facts=facts,
        model=context.model.path,
        product=context.product,
        precision=engine.precision,
        batch=engine.batch,
        memory=memory,
        folder=notes.folder,
        band=journal.band,
        panel=panel,
    )
    _log_plan(job)
    job.parts.keep_only(job.units)
    notes.added(journal).write(job.folder)
    return replace(job, todo=tuple(job.missing()))


def _log_plan(job: SceneJob) -> None:
    """What `-v` tells of a scene before it is run."""
    scene, plan, memory = job.scene.scene, job.scene.lattice.plan, job.memory
    resolution = f" of {scene.ground_resolution:.4g} m" if scene.ground_resolution else ""
    log.debug(
        "%s: %d × %d px%s, %s, bands %s, masked by %s",
        scene.source, scene.width, scene.height, resolution, scene.dtype, ", ".join(scene.names),
        scene.rules.describe(),
    )  # fmt: skip
    ranges = dict.fromkeys(zip(job.scene.scaling.low, job.scene.scaling.high, strict=True))
    log.debug("values that become 0 and 1: %s", ", ".join(f"{low:g} to {high:g}" for low, high in ranges))
    log.debug(
        "%d windows of %d px, overlap %d, in %d units of up to %d rows and %d columns",
        len(plan), plan.tile, plan.overlap, len(job.units), job.band, job.panel,
    )  # fmt: skip
    log.debug(
        "%d windows side by side, batch %d, %d reading and %d writing threads, %s of memory, limit %s",
        memory.lanes, job.batch, memory.threads, memory.encoders, *map(show_bytes, (memory.expected, memory.limit)),
    )  # fmt: skip


def pick_memory(context: MapContext, engine: InferenceEngine, scene: PreparedScene) -> MemoryPlan:
    """Panels and lanes under the limits of the settings; a limit that had to be raised is logged."""
    settings = context.settings
    memory = plan_memory(
        engine,
        scene,
        limit=settings.mem_limit,
        device_limit=settings.device_mem,
        workers=context.workers,
        seat=context.seat,
    )
    if memory.remark:
        log.warning("%s", memory.remark)
    return memory


def disk_needed(scene: PreparedScene, product: Product) -> int:
    """Bytes on disk at most, if nothing shrinks: parts and rasters with overviews; rows between them if resampled."""
    raster = scene.scene
    planes = sum(plane.pixel_bytes for plane in product.planes)
    seen, original = raster.height * raster.width, raster.original.height * raster.original.width
    rows = original if raster.is_resampled else 0
    return planes * (seen + rows + original * 4 // 3)


def _compute(context: MapContext, job: SceneJob, engine: InferenceEngine, notes: JournalNotes) -> Pace:
    """Compute what is to be done: the first share in this process, the others in helpers."""
    progress, workers = context.progress, min(context.workers, max(1, len(job.todo)))
    windows = sum(job.windows(Share(n, workers).of(job.todo)) for n in range(workers))
    progress.start("windows", windows, "window", scene=job.target.source)
    with helpers(compute_share, job, workers, notes) as others:

        def step(count: int, pace: Pace) -> None:
            tell_pace(progress, job, count, pace, others=others.windows() if others else 0)

        pace = compute_units(job, engine, Share(0, workers).of(job.todo), step)
        if others:
            others.wait(progress.advance)
    progress.close()
    return pace


def tell_pace(progress: Progress, job: SceneJob, count: int, pace: Pace, *, others: int = 0) -> None:
    """Tell of `count` more windows of this process, whose pace it is, and of `others` of its helpers."""
    plan = job.scene.lattice.plan
    done = plan.height * plan.width * pace.read / len(plan) / 1e6 / max(pace.seconds, 1e-9)
    facts = {"Mpx/s": f"{done:.2f}", "waited": f"{pace.waited / max(pace.seconds, 1e-9):.0%}"}
    progress.advance(count + others, **facts)


def _write(context: MapContext, job: SceneJob) -> NDArray[np.int64]:
    """Write all rasters; how often each class id occurs, (256,)."""
    tags = {  # only what decides the pixels, so that equal maps are equal files
        "CO2S_VERSION": __version__,
        "CO2S_MODEL": str(job.facts["model"]),
        "CO2S_SETTINGS": json.dumps(_shown(job.facts), sort_keys=True),
        KEY_TAG: store.key_of(job.facts),
    }
    classes = context.model.manifest.class_map
    return write_rasters(job, classes=classes, tags=tags, creation=context.creation, progress=context.progress)


def _result(
    context: MapContext,
    job: SceneJob,
    *,
    pace: Pace,
    counts: NDArray[np.int64],
    seconds: float,
    state: str,
) -> MapResult:
    """The figures of a map whose rasters are written; `counts` (256,) says how often each class id occurs."""
    original = job.scene.scene.original
    journal = Journal.read(job.folder)
    return MapResult(
        source=job.target.source,
        outputs=job.target.kept,
        addresses=job.target.addresses,
        state=state,
        pixels=_pixels(context.model.manifest.class_map, counts),
        pixels_without_class=int(counts[IGNORE]),
        windows=len(job.scene.lattice.plan),
        read=pace.read,
        ran=pace.ran,
        seconds=seconds,
        megapixels_per_second=original.height * original.width / 1e6 / max(seconds, 1e-9),
        waited=pace.waited / max(pace.seconds, 1e-9),
        device=str(context.device),
        precision=job.precision,
        batch=job.batch,
        lanes=job.memory.lanes,
        panel=job.panel,
        memory_limit=job.memory.limit,
        notes=journal.notes if journal else (),
    )


def _pixels(classes: ClassMap, counts: NDArray[np.int64]) -> dict[str, int]:
    return {name: int(counts[class_id]) for class_id, name in enumerate(classes.names)}


def _make_beside(
    context: MapContext, target: Target, scene: PreparedScene, missing: Collection[str] | None = None
) -> None:
    """Make what is wanted beside the map, or is `missing` of that, and upload what goes to object storage.

    Where something beside it fails, a map on this machine is whole and stays.
    """
    wanted = target.outputs.keys() if missing is None else missing
    try:
        context.beside.make(target, scene, wanted)
    except Co2sError as error:
        if CLASS in target.addresses:
            raise
        store.clear(target.folder)
        again = "the same command with --resume makes only what is missing"
        raise type(error)(
            f"{target.out}: the map is whole and stays, but what is wanted beside it failed: {error.message}",
            hint=f"{error.hint}; {again}" if error.hint else again,
        ) from error
    if target.addresses:
        with reading(str(target.out)) as dataset:
            key = dataset.tags()[KEY_TAG]
        publish(target, key, wanted)
