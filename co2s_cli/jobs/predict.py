"""Label every pixel of scenes: each becomes a map, whole or not at all, by work that may be interrupted anywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.errors import InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import tell_left_out
from co2s_cli.geo.write.stac_item import check_pystac, write_item
from co2s_cli.inference.estimate import Estimate, estimate
from co2s_cli.inference.mapping import Beside, MapContext, MapResult, make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.products import product_of
from co2s_cli.inference.targets import Target, targets_of
from co2s_cli.jobs.paths import check_maps
from co2s_cli.jobs.scenes import Failure, check, each, listed
from co2s_cli.jobs.shares import share_of
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The maps or the estimates of all scenes, and the failures."""

    model: Path
    maps: tuple[MapResult, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    """Instead of maps, where only that was wanted."""
    failed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """The paths of the maps, one a line; or the estimates."""
        maps = (result.out for result in self.maps)
        return "\n".join([*maps, *(figures.text() for figures in self.estimates)])

    def check(self) -> None:
        """Raise where some scenes failed, with a list of them."""
        check(self.failed, len(self.failed) + len(self.maps) + len(self.estimates))


def run(settings: PredictConfig, progress: Progress = SILENT) -> PredictResult:
    """Make the maps, one scene after the other; of several scenes a failing one does not stop the others.

    Raises:
        Co2sError: what is wrong with the settings, the model, or with the only scene.
        InterruptError: Ctrl-C; what is finished of a map stays for the next run of the same command.
    """
    settings = listed(settings)
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    if settings.model is None:
        log.info("model: %s, trained on %s", model.name, manifest.trained_on or "data that it does not name")
    product_of(settings, manifest)
    tell_left_out(settings.scenes)
    targets = targets_of(settings.scenes, settings.out, settings.extra_outputs(), settings.scratch)
    check_maps(settings, targets)
    alone, share = len(targets) == 1, share_of(targets, settings.shard, os.environ)
    if settings.engine == "ray" and not settings.dry_run:
        from co2s_cli.jobs import on_ray

        made, failed = on_ray.make_maps(context_of, settings, share, progress, alone=alone)
        return PredictResult(model, made, failed=failed)
    context = context_of(settings, progress)
    maps: list[MapResult] = []
    estimates: list[Estimate] = []

    def make(target: Target) -> None:
        if settings.dry_run:
            estimates.append(estimate(context, target))
        else:
            maps.append(make_map(context, target))

    failed = each(share, make, progress, alone=alone)
    return PredictResult(model, tuple(maps), tuple(estimates), failed)


def context_of(settings: PredictConfig, progress: Progress) -> MapContext:
    """What the maps of all scenes share in one process.

    Raises:
        Co2sError: what is wrong with the model, the device, or what is wanted of them.
    """
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    beside = Beside(
        check=lambda target, scene: _check_beside(target, scene.scene, settings),
        make=lambda target, scene, missing: _make_beside(
            target, scene.scene, settings, manifest, progress=progress, missing=missing
        ),
    )
    product = product_of(settings, manifest)
    return MapContext.of(settings, ModelFile(model, manifest), product, progress=progress, beside=beside)


def _check_beside(target: Target, scene: Scene, settings: PredictConfig) -> None:
    """Refuse polygons and an item that could not be made of the map."""
    if settings.stac:
        check_pystac()
    if "vector" not in target.beside:
        return
    from co2s_cli.geo.write import vector
    from co2s_cli.jobs import vectorize

    path = target.beside["vector"]
    if vector.format_of(path).lonlat and scene.original.crs is None and scene.original.gcp_crs is None:
        raise InputError(
            f"--vector {path}: GeoJSON is in EPSG:4326, but {scene.source} has no CRS",
            hint="choose .gpkg, .fgb or .parquet, or set the CRS of the scene with gdal_edit.py -a_srs",
        )
    vectorize.check(_vector_settings(target, settings), scene.original)


def _make_beside(
    target: Target,
    scene: Scene,
    settings: PredictConfig,
    manifest: Manifest,
    *,
    progress: Progress,
    missing: Collection[str],
) -> None:
    """Polygons and picture of a map that is whole; their libraries take 90 MB, which a plain map has no use for."""
    if "vector" in missing:
        from co2s_cli.jobs import vectorize

        vectorize.run(_vector_settings(target, settings), progress)
    if "preview" in missing:
        from co2s_cli.geo.write.preview import write_preview

        write_preview(target.beside["preview"], scene=scene, map_path=target.out, classes=manifest.class_map)
    if "stac" in missing:
        write_item(target.beside["stac"], target.outputs, target.named, manifest.class_map, scene.source)


def _vector_settings(target: Target, settings: PredictConfig) -> VectorizeConfig:
    """How polygons are made of the map, under the memory limit of the map."""
    limit: dict[str, Any] = {} if settings.mem_limit is None else {"mem_limit": settings.mem_limit}
    return VectorizeConfig(
        raster=str(target.out),
        out=target.beside["vector"],
        confidence=str(target.beside["confidence"]) if "confidence" in target.beside else None,
        workers=settings.workers or 1,
        overwrite=True,
        **limit,
    )
