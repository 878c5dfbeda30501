"""Make pseudo-labels: a candidate map of every scene, then one confidence threshold per class for all scenes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.data.rounds import HumanLabels
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import tell_left_out
from co2s_cli.inference.estimate import Estimate, estimate
from co2s_cli.inference.map_setup import MapContext
from co2s_cli.inference.mapping import MapResult, make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.paths import check_round
from co2s_cli.jobs.pseudo_round import LabellingRound, SceneLabels
from co2s_cli.jobs.scenes import Failure, list_scenes, raise_failures, run_each
from co2s_cli.jobs.shares import share_of
from co2s_cli.locks import only_writer
from co2s_cli.models import weights
from co2s_cli.progress import SILENT, Progress
from co2s_cli.pseudo.candidates import candidates_of
from co2s_cli.pseudo.cut import LabelSummary
from co2s_cli.pseudo.round_folder import RoundFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PseudoLabelResult:
    """Files and figures of one call."""

    model: Path
    data: Path | None = None
    """The data.yaml of the next round; None if no pixel was labelled."""
    report: Path | None = None
    scenes: tuple[SceneLabels, ...] = ()
    total: LabelSummary | None = None
    made: tuple[MapResult, ...] = ()
    """Figures of the candidate maps."""
    estimates: tuple[Estimate, ...] = ()
    """Estimates in place of all else, with --dry-run."""
    failed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """Path of the data.yaml, paths of the candidates of a share (--shard), or the estimates; one per line."""
        candidates = [] if self.report else [str(result.outputs[CLASS]) for result in self.made]
        data = [str(self.data)] if self.data else []
        return "\n".join([*data, *candidates, *(estimate.text() for estimate in self.estimates)])

    def check(self) -> None:
        """Raise `PartialError` with a list of the failed scenes, if there are any."""
        raise_failures(self.failed, len(self.failed) + len(self.scenes or self.estimates or self.made))


def run(settings: PseudoLabelConfig, progress: Progress = SILENT) -> PseudoLabelResult:
    """Label the scenes; if one of several scenes fails, the others are still labelled.

    Raises:
        Co2sError: what is wrong with the settings, the model, the labels to keep, or with the only scene.
        InterruptError: Ctrl-C; finished parts stay for the next run of the same command.
    """
    settings = list_scenes(settings)
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    if settings.model is None:
        log.info("model: %s, trained on %s", model.name, manifest.trained_on or "data that it does not name")
    product = candidates_of(manifest, settings.agree)
    settings.check_classes(manifest.class_map.names)
    if settings.truth is not None and not settings.truth.exists():
        raise InputError(f"{settings.truth}: no such label file or folder")
    human_labels = HumanLabels.read(settings.keep_labels, manifest)
    folder = RoundFolder(settings.out)
    tell_left_out(settings.scenes)
    kinds = [plane.name for plane in product.planes if plane.name != CLASS]
    targets = folder.targets(settings.scenes, kinds, settings.scratch)
    check_round(settings, folder, targets)
    _check_data(settings, human_labels, targets)
    # complete candidate maps are reused: with other thresholds the model does not run again
    resuming = settings.model_copy(update={"resume": True})
    single_scene, share = len(targets) == 1, share_of(targets, settings.shard, os.environ)
    if settings.dry_run:
        estimates: list[Estimate] = []
        context = context_of(resuming, progress)
        failed = run_each(
            share, lambda target: estimates.append(estimate(context, target)), progress, single_scene=single_scene
        )
        return PseudoLabelResult(model, estimates=tuple(estimates), failed=failed)
    # shares are made by several processes at a time: their rasters are locked one by one, not the folder
    with only_writer(settings.out) if settings.shard is None else contextlib.nullcontext():
        folder.check(targets, overwrite=settings.overwrite, resume=settings.resume)
        folder.make_subfolders(targets)
        labelling_round = LabellingRound(
            settings, model, manifest, product.rule, human_labels, folder, progress, single_scene=single_scene
        )
        made, failed = _candidates(share, resuming, labelling_round)
        if settings.shard is not None:
            log.info("candidates of a share: once all shares are made, the same command without --shard labels them")
            return PseudoLabelResult(model, made=made, failed=failed)
        failed_sources = {failure.source for failure in failed}
        with_candidates = [target for target in targets if target.source not in failed_sources]
        result = labelling_round.label(with_candidates, failed)
    return PseudoLabelResult(model, result.data, folder.report, result.scenes, result.total, made, failed=result.failed)


def context_of(settings: PseudoLabelConfig, progress: Progress) -> MapContext:
    """What the candidate maps of all scenes share in one process.

    Raises:
        Co2sError: what is wrong with the model, the device or the settings.
    """
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    product = candidates_of(manifest, settings.agree)
    return MapContext.of(settings, ModelFile(model, manifest), product, progress=progress)


def _candidates(
    targets: Sequence[Target], settings: PseudoLabelConfig, labelling_round: LabellingRound
) -> tuple[tuple[MapResult, ...], tuple[Failure, ...]]:
    """The candidate maps of all scenes, and the scenes that failed."""
    progress, single_scene = labelling_round.progress, labelling_round.single_scene
    if settings.engine == "ray":
        from co2s_cli.jobs import on_ray

        refused = run_each(targets, labelling_round.check, progress, single_scene=single_scene)
        refused_sources = {failure.source for failure in refused}
        accepted = [target for target in targets if target.source not in refused_sources]
        candidates, failed = on_ray.make_maps(context_of, settings, accepted, progress, single_scene=single_scene)
        return candidates, (*refused, *failed)
    context = context_of(settings, progress)
    made: list[MapResult] = []

    def make(target: Target) -> None:
        labelling_round.check(target)
        made.append(make_map(context, target))

    failed = run_each(targets, make, progress, single_scene=single_scene)
    return tuple(made), failed


def _check_data(settings: PseudoLabelConfig, human_labels: HumanLabels, targets: Sequence[Target]) -> None:
    """Refuse bands, sample types and scalings of the scenes that the data.yaml of the next round cannot express."""
    if human_labels.config is not None:
        band_count = len(human_labels.config.bands)
        if settings.bands and len(settings.bands) != band_count:
            raise ConfigError(f"{settings.keep_labels}: names {band_count} bands, --bands picks {len(settings.bands)}")
        labelled_dtype = human_labels.sample_type
        for target in targets:
            if labelled_dtype is not None and (dtype := _dtype(target)) not in (labelled_dtype, None):
                raise InputError(
                    f"{target.source}: samples of {dtype}, the images of {settings.keep_labels} have {labelled_dtype}",
                    hint="training takes one type: leave out the scene, or label it without --keep-labels",
                )
    elif settings.scale != "model":
        dtypes = {dtype for target in targets if (dtype := _dtype(target)) is not None}
        if len(dtypes) > 1:
            raise ConfigError(
                f"--scale {settings.scale}: the scenes have samples of {', '.join(sorted(dtypes))}, "
                "and a data.yaml holds ranges for one type",
                hint="label the scenes of each type in a separate run",
            )


def _dtype(target: Target) -> str | None:
    """Type of a scene's samples; None for a scene that cannot be opened, which fails later with a message."""
    try:
        return Scene.open(target.source).dtype
    except InputError:
        return None
