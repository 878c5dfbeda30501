"""Label every pixel of scenes. Each map appears complete or not at all; interrupted work can be continued."""

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
from co2s_cli.inference.map_setup import ExtraOutputs, MapContext
from co2s_cli.inference.mapping import MapResult, make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.products import product_of
from co2s_cli.inference.targets import Target, targets_of
from co2s_cli.jobs.paths import check_maps
from co2s_cli.jobs.scenes import Failure, list_scenes, raise_failures, run_each
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
    """Estimates in place of maps, with --dry-run."""
    failed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """The paths of the maps, one per line; or the estimates."""
        maps = (result.out for result in self.maps)
        return "\n".join([*maps, *(estimate.text() for estimate in self.estimates)])

    def check(self) -> None:
        """Raise `PartialError` with a list of the failed scenes, if there are any."""
        raise_failures(self.failed, len(self.failed) + len(self.maps) + len(self.estimates))


def run(settings: PredictConfig, progress: Progress = SILENT) -> PredictResult:
    """Make the maps, one scene after the other; if one of several scenes fails, the others are still made.

    Raises:
        Co2sError: what is wrong with the settings, the model, or with the only scene.
        InterruptError: Ctrl-C; finished parts of a map stay for the next run of the same command.
    """
    settings = list_scenes(settings)
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    if settings.model is None:
        log.info("model: %s, trained on %s", model.name, manifest.trained_on or "data that it does not name")
    product_of(settings, manifest)
    tell_left_out(settings.scenes)
    targets = targets_of(settings.scenes, settings.out, settings.extra_outputs(), settings.scratch)
    check_maps(settings, targets)
    single_scene, share = len(targets) == 1, share_of(targets, settings.shard, os.environ)
    if settings.engine == "ray" and not settings.dry_run:
        from co2s_cli.jobs import on_ray

        ray_maps, failed = on_ray.make_maps(context_of, settings, share, progress, single_scene=single_scene)
        return PredictResult(model, ray_maps, failed=failed)
    context = context_of(settings, progress)
    maps: list[MapResult] = []
    estimates: list[Estimate] = []

    def make(target: Target) -> None:
        if settings.dry_run:
            estimates.append(estimate(context, target))
        else:
            maps.append(make_map(context, target))

    failed = run_each(share, make, progress, single_scene=single_scene)
    return PredictResult(model, tuple(maps), tuple(estimates), failed)


def context_of(settings: PredictConfig, progress: Progress) -> MapContext:
    """What the maps of all scenes share in one process.

    Raises:
        Co2sError: what is wrong with the model, the device or the settings.
    """
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    extras = ExtraOutputs(
        check=lambda target, scene: _check_extras(target, scene.scene, settings),
        make=lambda target, scene, names: _make_extras(
            target, scene.scene, settings, manifest, progress=progress, names=names
        ),
    )
    product = product_of(settings, manifest)
    return MapContext.of(settings, ModelFile(model, manifest), product, progress=progress, extras=extras)


def _check_extras(target: Target, scene: Scene, settings: PredictConfig) -> None:
    """Refuse polygons and a STAC item that could not be made from the map."""
    if settings.stac:
        check_pystac()
    if "vector" not in target.extras:
        return
    from co2s_cli.geo.write import vector
    from co2s_cli.jobs import vectorize

    path = target.extras["vector"]
    if vector.format_of(path).lonlat and scene.original.crs is None and scene.original.gcp_crs is None:
        raise InputError(
            f"--vector {path}: GeoJSON is in EPSG:4326, but {scene.source} has no CRS",
            hint="choose .gpkg, .fgb or .parquet, or set the CRS of the scene with gdal_edit.py -a_srs",
        )
    vectorize.check(_vector_settings(target, settings), scene.original)


def _make_extras(
    target: Target,
    scene: Scene,
    settings: PredictConfig,
    manifest: Manifest,
    *,
    progress: Progress,
    names: Collection[str],
) -> None:
    """Make those of polygons, preview and STAC item that are in `names` from a complete map.

    Their libraries, which take 90 MB of memory, are imported only when needed.
    """
    if "vector" in names:
        from co2s_cli.jobs import vectorize

        vectorize.run(_vector_settings(target, settings), progress)
    if "preview" in names:
        from co2s_cli.geo.write.preview import write_preview

        write_preview(target.extras["preview"], scene=scene, map_path=target.out, classes=manifest.class_map)
    if "stac" in names:
        write_item(target.extras["stac"], target.outputs, target.display_names, manifest.class_map, scene.source)


def _vector_settings(target: Target, settings: PredictConfig) -> VectorizeConfig:
    """Settings of `vectorize` for the polygons of the map, with the map's memory limit."""
    limit: dict[str, Any] = {} if settings.mem_limit is None else {"mem_limit": settings.mem_limit}
    return VectorizeConfig(
        raster=str(target.out),
        out=target.extras["vector"],
        confidence=str(target.extras["confidence"]) if "confidence" in target.extras else None,
        workers=settings.workers or 1,
        overwrite=True,
        **limit,
    )
