"""Checks of flags and file headers before torch is imported, which takes seconds.

Each job repeats these checks when it opens the files; no result is kept. Of several scenes none is opened: a bad
one must not stop the others, and the job handles it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from co2s_cli.addresses import address_of
from co2s_cli.config.data import LabeledEntry, UnlabeledEntry, read_data
from co2s_cli.config.distill import DistillConfig
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.config.export import ExportConfig
from co2s_cli.config.import_ import ImportConfig
from co2s_cli.config.mapping import MapConfig, ModelRunConfig
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.protocol import find_protocol
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.config.run import RunConfig
from co2s_cli.config.suggest import SuggestConfig
from co2s_cli.data.sources import open_scene as open_image
from co2s_cli.data.sources import with_bands
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.files import check_output, check_readable
from co2s_cli.geo.read.checks import check_exists
from co2s_cli.geo.sources import SUFFIXES, is_local
from co2s_cli.geo.write.raster import cog_options
from co2s_cli.inference.names import CONFIDENCE, DISAGREEMENT
from co2s_cli.inference.targets import open_scene, targets_of
from co2s_cli.jobs.paths import check_maps, check_outputs, check_report, check_round
from co2s_cli.jobs.paths import check_run as check_run_files
from co2s_cli.locks import check_free
from co2s_cli.models import weights
from co2s_cli.models.hub import find_weights, missing, reachable
from co2s_cli.models.manifest import Manifest
from co2s_cli.pseudo.round_folder import RoundFolder
from co2s_cli.suggestions.places import PlaceLattice
from co2s_cli.suggestions.request import check_boxes, open_labelled
from co2s_cli.training.names import check_new


def check_predict(settings: PredictConfig) -> None:
    """Refuse a model file, outputs and a scene that do not fit together.

    Raises:
        Co2sError: as `jobs.predict.run` would.
    """
    targets = targets_of(settings.scenes, settings.out, settings.extra_outputs(), settings.scratch)
    check_maps(settings, targets)
    manifest = _manifest(settings)
    if len(targets) == 1 and not (settings.overwrite or settings.resume or settings.dry_run):
        target = targets[0]
        target.check(overwrite=target.folder.exists())
    _check_scene([target.source for target in targets], manifest, settings)


def check_pseudo_label(settings: PseudoLabelConfig) -> None:
    """Refuse a model file, labels and a scene that do not fit together.

    Raises:
        Co2sError: as `jobs.pseudo_label.run` would.
    """
    check_free(settings.out)
    folder = RoundFolder(settings.out)
    targets = folder.targets(settings.scenes, (CONFIDENCE, DISAGREEMENT), settings.scratch)
    check_round(settings, folder, targets)
    manifest = _manifest(settings)
    settings.check_classes(manifest.class_map.names)
    if settings.truth is not None and not settings.truth.exists():
        raise InputError(f"{settings.truth}: no such label file or folder")
    _check_scene([target.source for target in targets], manifest, settings)


def check_suggest(settings: SuggestConfig) -> None:
    """Refuse a model file, an output, labels and a scene that do not fit together.

    Raises:
        Co2sError: as `jobs.suggest.run` would.
    """
    check_boxes(settings)
    manifest = _manifest(settings)
    if is_local(settings.scene) and not Path(settings.scene).is_dir():
        grid = open_scene(settings.scene, manifest, settings.mapping()).original
        PlaceLattice.of(settings.size, grid, settings.scene)
        open_labelled(settings, grid)


def check_run(settings: RunConfig) -> None:
    """Refuse a folder that holds a run or is in use, and weights, teachers or images that are missing or do not fit.

    Raises:
        Co2sError: as the training would.
    """
    if settings.out and os.environ.get("WORLD_SIZE", "1") == "1":  # under torchrun the first process may hold the lock
        check_free(settings.out)
    check_run_files(settings)
    if settings.resume:
        return
    is_first = os.environ.get("RANK", "0") == "0"  # only the first process needs the folder
    if is_first and settings.out and not settings.overwrite:
        check_new(settings.out)
    for model in [*([settings.init] if settings.init else []), *_model_teachers(settings)]:
        weights.read_manifest(model)
    if settings.root is not None:
        find_protocol(settings.data)
    elif settings.labels is None:
        _check_data(Path(settings.data))


def check_pretrained(settings: RunConfig) -> None:
    """Refuse known pretrained weights that are not cached while the network is unreachable.

    Names that are not in the table of known weights are left to timm and open_clip.

    Raises:
        ModelError: lists the addresses of all missing weights.
    """
    if settings.resume:
        return
    known_weights = [find_weights(name) for name in settings.pretrained]
    absent = [item for item in known_weights if item is not None and item.cached() is None]
    if absent and not reachable(absent[0].address):
        raise missing(absent, flags=settings.weight_flags)


def check_evaluate(settings: EvaluateConfig) -> None:
    """Refuse a model file that cannot be read, and a report over one of the inputs.

    Raises:
        Co2sError: as `jobs.evaluate.run` would.
    """
    check_report(settings)
    if settings.model is not None:
        weights.read_manifest(settings.model)


def check_export(settings: ExportConfig) -> None:
    """Refuse a file that is no model, and an output that exists or cannot be written.

    Raises:
        Co2sError: as `jobs.export.run` would.
    """
    check_output(settings.onnx, overwrite=settings.overwrite)
    weights.read_manifest(settings.model)


def check_import(settings: ImportConfig) -> None:
    """Refuse checkpoints that cannot be read, an unknown data set, and a model file that cannot be written.

    Raises:
        Co2sError: as `jobs.import_.run` would.
    """
    if settings.out.suffix != ".safetensors":
        raise ConfigError(f"{settings.out}: a model file is named *.safetensors")
    check_outputs(settings)
    check_output(settings.out, overwrite=settings.overwrite)
    find_protocol(settings.dataset)
    for path in settings.checkpoints:
        check_readable(path)


def _manifest(settings: ModelRunConfig) -> Manifest:
    """The manifest of the model, after the checks of creation options and of the area of interest."""
    if isinstance(settings, MapConfig):
        cog_options(settings.co)
        if settings.aoi is not None and not address_of(str(settings.aoi)):
            check_readable(settings.aoi)
    return weights.read_manifest(settings.model or weights.default_path())


def _check_scene(sources: Sequence[str], manifest: Manifest, settings: MapConfig) -> None:
    """Open the header of the scene, if there is only one and it is a local file."""
    if len(sources) == 1 and is_local(sources[0]):
        open_scene(sources[0], manifest, settings)


def _model_teachers(settings: RunConfig) -> tuple[Path, ...]:
    return settings.models if isinstance(settings, DistillConfig) else ()


def _check_data(path: Path) -> None:
    """Open the header of every local image of a data.yaml; folders of chips are left to the job."""
    if path.suffix.lower() in SUFFIXES:
        raise ConfigError(
            f"{path}: is a scene, a data.yaml is wanted",
            hint=f"add --labels polygons.gpkg, or write one first: co2s init {path} --labels polygons.gpkg",
        )
    data = with_bands(read_data(path))
    labeled: list[LabeledEntry] = [*data.labeled, *(data.val if isinstance(data.val, tuple) else ())]
    entries: list[LabeledEntry | UnlabeledEntry] = [*labeled, *data.unlabeled]
    for entry in entries:
        if is_local(entry.image) and not Path(entry.image).is_dir():
            open_image(entry.image, data.band_names, entry.bands, entry.nodata)
    for entry in labeled:
        for file in (entry.labels, entry.weights):
            if isinstance(file, Path):
                check_exists(str(file))
