"""One map of one scene: begin or continue it, compute the missing units, write the rasters, make extra outputs.

What comes before the first unit is in `map_setup`. The functions stand in the order in which they run.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli import __version__
from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.cloud import stored_attributes
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import Co2sError, OutputError
from co2s_cli.geo.checksum import checksum_holds
from co2s_cli.geo.gdal import reading
from co2s_cli.inference import store
from co2s_cli.inference.assembly import write_rasters
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.inference.map_setup import (
    MapContext,
    check_outputs,
    disk_needed,
    pick_memory,
    prepare_scene,
    set_up_engine,
)
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.publishing import MADE_DIFFERENTLY, MISSING, publish, published_problem
from co2s_cli.inference.runner import Pace
from co2s_cli.inference.scene_job import BAND, SceneJob, compute_share, compute_units
from co2s_cli.inference.store import Journal, JournalNotes
from co2s_cli.inference.targets import Target
from co2s_cli.inference.workers import Share, helpers
from co2s_cli.progress import Progress

log = logging.getLogger(__name__)

KEY_TAG = "CO2S_KEY"
"""Tag of the map's raster: digest of the facts, which decide its pixels."""

_UNREADABLE_FACTS = ("scene", "validity", "area")
"""Facts that are digests or hold paths: left out of messages and of the settings tag of the raster."""


@dataclass(frozen=True, slots=True)
class MapResult:
    """One map and figures of how it was made."""

    source: str
    outputs: dict[str, Path]
    """The outputs on this machine by name; the map is `class`."""
    state: str
    """made, resumed (unfinished work was continued), or done (the map was complete before this run)."""
    addresses: dict[str, str] = field(default_factory=dict)
    """The outputs in object storage by name."""
    pixels: dict[str, int] = field(default_factory=dict)
    """Pixels of each class by name."""
    pixels_without_class: int = 0
    """Pixels that are nodata, outside the area of interest, or below --min-confidence."""
    windows: int = 0
    """Windows of the scene."""
    read: int = 0
    """Windows that this process read."""
    ran: int = 0
    """Windows that went through the model in this process."""
    seconds: float = 0.0
    """Time from the first read to the closed files."""
    megapixels_per_second: float = 0.0
    waited: float = 0.0
    """Share of the computing time in which the model waited for windows to be read, 0 to 1."""
    device: str = ""
    precision: str = ""
    batch: int = 0
    """Windows in a batch."""
    lanes: int = 0
    """Batches that ran at a time in each process."""
    panel: int = 0
    """Columns of a unit."""
    memory_limit: int = 0
    """Bytes for all processes of this map together."""
    notes: tuple[str, ...] = ()
    """Events that may have changed the last bits of the probabilities, such as a batch that had to be halved."""

    @property
    def out(self) -> str:
        """Path or address of the map."""
        return self.addresses.get("class") or str(self.outputs["class"])


@dataclass(frozen=True, slots=True)
class BegunMap:
    """A planned map: the job, which any process can compute, and the engine of the process that planned it."""

    job: SceneJob
    engine: InferenceEngine
    resumed: bool
    """Whether unfinished work is continued."""


def make_map(context: MapContext, target: Target) -> MapResult:
    """Make the map of one scene and its extra outputs, or continue unfinished work on them.

    Raises:
        Co2sError: what is wrong with scene, outputs or memory; finished parts stay for the next run.
    """
    check_outputs(context.settings, target)
    scene = prepare_scene(context, target)
    with store.locked(target.out, target.folder) as folder:
        notes = JournalNotes(folder)
        begun = begin(context, target, scene, notes)
        if isinstance(begun, MapResult):
            return begun
        started = time.perf_counter()
        pace = _compute(context, begun.job, begun.engine, notes)
        seconds = time.perf_counter() - started
        result = finish(context, begun.job, pace=pace, seconds_before=seconds, resumed=begun.resumed)
        store.clear(folder)
        return result


def begin(context: MapContext, target: Target, scene: PreparedScene, notes: JournalNotes) -> BegunMap | MapResult:
    """Plan how the map is made, in its locked folder; a result instead if --resume finds the map complete.

    Raises:
        Co2sError: the outputs exist, unfinished work has other settings, or memory or disk do not suffice.
    """
    settings, folder = context.settings, notes.folder
    journal = Journal.read(folder)
    engine, facts = set_up_engine(context, scene, journal, notes)
    if journal is None and settings.resume and _exists(target, CLASS) and _is_complete(context, target, facts):
        return _finish_complete_map(context, target, scene)
    if journal is not None and journal.key != store.key_of(facts):
        _discard_unfinished(context, folder, journal, facts)
        journal, (engine, facts) = None, set_up_engine(context, scene, None, notes)
    if journal is None:
        target.check(overwrite=settings.overwrite)
    job = _plan_job(context, target, scene, engine=engine, facts=facts, journal=journal, notes=notes)
    return BegunMap(job, engine, journal is not None)


def finish(context: MapContext, job: SceneJob, *, pace: Pace, seconds_before: float, resumed: bool) -> MapResult:
    """Write the rasters of a job whose units are all finished, then the extra outputs.

    Args:
        context: the context of this process.
        job: the job; all of its units are finished.
        pace: figures of the computing of its units.
        seconds_before: time that the map has taken so far.
        resumed: whether unfinished work was continued.
    """
    started = time.perf_counter()
    job.target.make_folders()  # an earlier try may have uploaded some outputs and removed them here
    counts = _write(context, job)
    seconds = seconds_before + time.perf_counter() - started
    state = "resumed" if resumed else "made"
    result = _result(context, job, pace=pace, counts=counts, seconds=seconds, state=state)
    log.info(
        "%s: %s in %.1f s (%.2f Mpx/s)", job.target.display_names[CLASS], state, seconds, result.megapixels_per_second
    )
    if not any(result.pixels.values()):
        log.warning(
            "%s: no pixel has a class: either all are nodata, or all are below --min-confidence, or the model's "
            "values overflow (try --precision fp32)",
            job.target.display_names[CLASS],
        )
    _make_extras(context, job.target, job.scene)
    return result


def _readable_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that mean something to a reader."""
    return {name: value for name, value in facts.items() if name not in _UNREADABLE_FACTS}


def _is_complete(context: MapContext, target: Target, facts: Mapping[str, Any]) -> bool:
    """Whether every raster is undamaged and was made from the same facts; False: --overwrite allows to replace them.

    Raises:
        OutputError: a raster is missing, damaged or another one, without --overwrite.
    """
    key, rasters = store.key_of(facts), {plane.name for plane in context.product.planes}
    for name in target.outputs if CLASS in target.addresses else rasters & target.outputs.keys():
        problem = _output_problem(target, name, key)
        if problem and not context.settings.overwrite:
            hint = "add --overwrite to make it anew, or choose another name"
            raise OutputError(f"{target.display_names[name]}: {problem}", hint=hint)
        if problem:
            return False
    return True


def _exists(target: Target, name: str) -> bool:
    """Whether there is a file or object of this output, whatever it holds."""
    address = target.addresses.get(name)
    return target.outputs[name].exists() if address is None else stored_attributes(address) is not None


def _output_problem(target: Target, name: str, key: str) -> str | None:
    """Why an output has to be made again; None if it is undamaged and was made from the facts whose digest is `key`."""
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
        has_key = dataset.tags().get(KEY_TAG) == key
    return None if has_key else MADE_DIFFERENTLY


def _finish_complete_map(context: MapContext, target: Target, scene: PreparedScene) -> MapResult:
    """The result of a map that was complete before this run; its missing extra outputs are made."""
    if CLASS not in target.addresses:
        target.make_folders()
        _make_extras(context, target, scene, {name for name in target.extras if not _exists(target, name)})
    return MapResult(target.source, target.local_outputs, "done", target.addresses)


def _discard_unfinished(context: MapContext, folder: Path, journal: Journal, facts: Mapping[str, Any]) -> None:
    """Remove unfinished work that was begun with other settings, if --overwrite allows that."""
    changes = [
        f"{name} was {journal.facts.get(name)}, is {value}"
        for name, value in _readable_facts(facts).items()
        if journal.facts.get(name) != value
    ]
    if not context.settings.overwrite:
        raise OutputError(
            f"{folder}: unfinished work was begun with other settings ({'; '.join(changes[:3]) or 'another scene'})",
            hint="run the command with those settings to continue, or add --overwrite to begin anew",
        )
    store.clear(folder)


def _plan_job(
    context: MapContext,
    target: Target,
    scene: PreparedScene,
    *,
    engine: InferenceEngine,
    facts: dict[str, Any],
    journal: Journal | None,
    notes: JournalNotes,
) -> SceneJob:
    """Fit the work into memory, and write to the journal how the scene is cut into units.

    Unfinished work keeps its panels, unless they are wider than memory now allows.
    """
    memory = pick_memory(context, engine, scene)
    width = scene.lattice.plan.width
    keep_panel = journal is not None and (journal.panel <= memory.panel or memory.panel >= width)
    panel = journal.panel if journal is not None and keep_panel else memory.panel
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
    """Log, for `-v`, the scene, its scaling, its windows and units, and how memory is used."""
    scene, plan, memory = job.scene.scene, job.scene.lattice.plan, job.memory
    resolution = f" of {scene.ground_resolution:.3g} m" if scene.ground_resolution else ""
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


def _compute(context: MapContext, job: SceneJob, engine: InferenceEngine, notes: JournalNotes) -> Pace:
    """Compute the missing units: the first share in this process, the others in helper processes."""
    progress, workers = context.progress, min(context.workers, max(1, len(job.todo)))
    windows = sum(job.count_windows(Share(index, workers).of(job.todo)) for index in range(workers))
    progress.start("windows", windows, "window", scene=job.target.source)
    with helpers(compute_share, job, workers, notes) as helper_processes:

        def report(count: int, pace: Pace) -> None:
            helper_windows = helper_processes.new_windows() if helper_processes else 0
            report_pace(progress, job, count, pace, helper_windows=helper_windows)

        pace = compute_units(job, engine, Share(0, workers).of(job.todo), report)
        if helper_processes:
            helper_processes.wait(progress.advance)
    progress.close()
    return pace


def report_pace(progress: Progress, job: SceneJob, count: int, pace: Pace, *, helper_windows: int = 0) -> None:
    """Advance the progress by `count` windows of this process and by those of its helpers.

    The speed that is shown is that of this process alone, by `pace`.
    """
    plan = job.scene.lattice.plan
    megapixels_per_second = plan.height * plan.width * pace.read / len(plan) / 1e6 / max(pace.seconds, 1e-9)
    facts = {"Mpx/s": f"{megapixels_per_second:.2f}", "waited": f"{pace.waited / max(pace.seconds, 1e-9):.0%}"}
    progress.advance(count + helper_windows, **facts)


def _write(context: MapContext, job: SceneJob) -> NDArray[np.int64]:
    """Write all rasters; returns the pixels of each class id, (256,)."""
    tags = {  # only what decides the pixels, so that equal maps are equal files
        "CO2S_VERSION": __version__,
        "CO2S_MODEL": str(job.facts["model"]),
        "CO2S_SETTINGS": json.dumps(_readable_facts(job.facts), sort_keys=True),
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
    """The figures of a map whose rasters are written; `counts` (256,) are the pixels of each class id."""
    original = job.scene.scene.original
    journal = Journal.read(job.folder)
    return MapResult(
        source=job.target.source,
        outputs=job.target.local_outputs,
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


def _make_extras(
    context: MapContext, target: Target, scene: PreparedScene, missing: Collection[str] | None = None
) -> None:
    """Make the extra outputs, or only the `missing` ones, then upload all outputs that go to object storage.

    If an extra output fails, a map on this machine is complete and stays.
    """
    names = target.outputs.keys() if missing is None else missing
    try:
        context.extras.make(target, scene, names)
    except Co2sError as error:
        if CLASS in target.addresses:
            raise
        store.clear(target.folder)
        resume_hint = "the same command with --resume makes only what is missing"
        raise type(error)(
            f"{target.out}: the map is complete and stays, but a further output failed: {error.message}",
            hint=f"{error.hint}; {resume_hint}" if error.hint else resume_hint,
        ) from error
    if target.addresses:
        with reading(str(target.out)) as dataset:
            key = dataset.tags()[KEY_TAG]
        publish(target, key, names)
