"""Set-up of a map before its first unit: checks of the outputs, the scene, the engine, memory and disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from socket import gethostname
from typing import Any

import torch

from co2s_cli import __version__
from co2s_cli.config.mapping import MapConfig
from co2s_cli.geo.write.raster import cog_options
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.inference.memory import MemoryPlan, pick_batch, plan_memory
from co2s_cli.inference.model import ModelFile, pick_device, pick_precision
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import Product
from co2s_cli.inference.scene_job import engine_of
from co2s_cli.inference.store import Journal
from co2s_cli.inference.targets import Target
from co2s_cli.progress import SILENT, Progress
from co2s_cli.resources import WHOLE_MACHINE, MachineShare

log = logging.getLogger(__name__)


def _do_nothing(target: Target, scene: PreparedScene, names: Collection[str] = ()) -> None:
    """The default of `ExtraOutputs`: rasters only."""


@dataclass(frozen=True, slots=True)
class ExtraOutputs:
    """Callbacks for outputs that are made from the finished map, such as polygons and a preview."""

    check: Callable[[Target, PreparedScene], None] = _do_nothing
    """Raises, before any compute, if one of these outputs could not be made."""
    make: Callable[[Target, PreparedScene, Collection[str]], None] = _do_nothing
    """Makes the outputs with the given names from the finished map."""


@dataclass(frozen=True, slots=True)
class MapContext:
    """What the maps of all scenes of a command share."""

    settings: MapConfig
    model: ModelFile
    product: Product
    device: torch.device
    """Device of this process."""
    workers: int
    """Processes that share a scene."""
    creation: Mapping[str, str]
    """Checked options of the COG driver."""
    progress: Progress
    extras: ExtraOutputs
    machine_share: MachineShare = WHOLE_MACHINE
    """Cores and memory that this process and its helpers may take."""

    @classmethod
    def of(
        cls,
        settings: MapConfig,
        model: ModelFile,
        product: Product,
        *,
        progress: Progress = SILENT,
        extras: ExtraOutputs = ExtraOutputs(),
    ) -> MapContext:
        """The context of a command; without --workers one process per GPU, unless --device names one GPU.

        Raises:
            Co2sError: the device or a creation option is not possible.
        """
        if "MALLOC_TRIM_THRESHOLD_" in os.environ:
            log.warning("MALLOC_TRIM_THRESHOLD_ is set on %s, which doubles the time of a map: unset it", gethostname())
        device = pick_device(settings.device, workers=settings.workers or 1)
        any_gpu = settings.device in ("auto", "cuda") and device.type == "cuda"
        workers = settings.workers or (torch.cuda.device_count() if any_gpu else 1)
        return cls(settings, model, product, device, workers, cog_options(settings.co), progress, extras)


def check_outputs(settings: MapConfig, target: Target) -> None:
    """Refuse outputs that exist, unless --overwrite, --resume or unfinished work of this map allows for them."""
    if not (settings.overwrite or settings.resume or target.folder.exists()):
        target.check(overwrite=False)


def prepare_scene(context: MapContext, target: Target) -> PreparedScene:
    """Open the scene and check it against the model, the settings and the extra outputs; its remarks are logged."""
    scene = PreparedScene.open(target.source, context.model.manifest, context.settings)
    context.extras.check(target, scene)
    for remark in scene.remarks(context.model.manifest):
        log.warning("%s", remark)
    return scene


def set_up_engine(
    context: MapContext, scene: PreparedScene, journal: Journal | None, note: Callable[[str], None] = log.warning
) -> tuple[InferenceEngine, dict[str, Any]]:
    """The engine for a scene, and the facts: everything that decides the pixels of the map.

    Precision and batch come from the settings, else from the journal of unfinished work, else from rules.
    """
    settings, product = context.settings, context.product
    earlier_facts = journal.facts if journal and journal.facts.get("device") == context.device.type else {}
    requested_precision = earlier_facts.get("precision", "auto") if settings.precision == "auto" else settings.precision
    model = context.model.load(settings, context.device, pick_precision(requested_precision, context.device))
    engine = engine_of(model, scene, product, note=note)
    engine.set_batch(int(settings.batch or earlier_facts.get("batch") or pick_batch(engine, scene)))
    facts = {
        "version": __version__,
        "model": model.digest,
        **scene.facts(),
        "product": repr(product),  # its class and field names: renaming one changes the key of every map
        "tta": settings.tta,
        "device": context.device.type,
        "precision": model.precision,
        "batch": engine.batch,
        "threads": 1,
        "compile": settings.compile,
    }
    return engine, facts


def pick_memory(context: MapContext, engine: InferenceEngine, scene: PreparedScene) -> MemoryPlan:
    """Panels and lanes under the limits of the settings; a limit that had to be raised is logged."""
    settings = context.settings
    memory = plan_memory(
        engine,
        scene,
        limit=settings.mem_limit,
        device_limit=settings.device_mem,
        workers=context.workers,
        machine_share=context.machine_share,
    )
    if memory.remark:
        log.warning("%s", memory.remark)
    return memory


def disk_needed(scene: PreparedScene, product: Product) -> int:
    """Bytes on disk at most, if nothing can be compressed.

    Counted are the parts, the rasters with their overviews and, if the scene is resampled, an intermediate raster.
    """
    raster = scene.scene
    pixel_bytes = sum(plane.pixel_bytes for plane in product.planes)
    model_pixels, scene_pixels = raster.height * raster.width, raster.original.height * raster.original.width
    intermediate_pixels = scene_pixels if raster.is_resampled else 0
    return pixel_bytes * (model_pixels + intermediate_pixels + scene_pixels * 4 // 3)
