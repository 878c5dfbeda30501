"""Turn what a model is sure of into labels: candidates of all scenes first, then one cut through all of them."""

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
from co2s_cli.inference.mapping import MapContext, MapResult, make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.targets import Target
from co2s_cli.jobs.paths import check_round
from co2s_cli.jobs.pseudo_round import LabellingRound, SceneLabels
from co2s_cli.jobs.scenes import Failure, check, each, listed
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
    """What a call has done."""

    model: Path
    data: Path | None = None
    """The data.yaml of the next round; None where nothing was labelled at all."""
    report: Path | None = None
    scenes: tuple[SceneLabels, ...] = ()
    total: LabelSummary | None = None
    made: tuple[MapResult, ...] = ()
    """How the candidates came about."""
    estimates: tuple[Estimate, ...] = ()
    """Instead of all else, where only that was wanted."""
    failed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """The data.yaml; of a share its candidates; or the estimates."""
        candidates = [] if self.report else [str(one.outputs[CLASS]) for one in self.made]
        data = [str(self.data)] if self.data else []
        return "\n".join([*data, *candidates, *(one.text() for one in self.estimates)])

    def check(self) -> None:
        """Raise where some scenes failed, with a list of them."""
        check(self.failed, len(self.failed) + len(self.scenes or self.estimates or self.made))


def run(settings: PseudoLabelConfig, progress: Progress = SILENT) -> PseudoLabelResult:
    """Label the scenes; of several a failing one does not stop the others.

    Raises:
        Co2sError: what is wrong with the settings, the model, the labels to keep, or with the only scene.
        InterruptError: Ctrl-C; what is finished stays for the next run of the same command.
    """
    settings = listed(settings)
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    if settings.model is None:
        log.info("model: %s, trained on %s", model.name, manifest.trained_on or "data that it does not name")
    product = candidates_of(manifest, settings.agree)
    settings.check_classes(manifest.class_map.names)
    if settings.truth is not None and not settings.truth.exists():
        raise InputError(f"{settings.truth}: no such label file or folder")
    human = HumanLabels.read(settings.keep_labels, manifest)
    folder = RoundFolder(settings.out)
    tell_left_out(settings.scenes)
    kinds = [plane.name for plane in product.planes if plane.name != CLASS]
    targets = folder.targets(settings.scenes, kinds, settings.scratch)
    check_round(settings, folder, targets)
    _check_data(settings, human, targets)
    # candidates that are whole are taken as they are: another cut does not run the model again
    again = settings.model_copy(update={"resume": True})
    alone, share = len(targets) == 1, share_of(targets, settings.shard, os.environ)
    if settings.dry_run:
        estimates: list[Estimate] = []
        context = context_of(again, progress)
        failed = each(share, lambda target: estimates.append(estimate(context, target)), progress, alone=alone)
        return PseudoLabelResult(model, estimates=tuple(estimates), failed=failed)
    # processes that make shares work side by side: each raster has a lock of its own
    with only_writer(settings.out) if settings.shard is None else contextlib.nullcontext():
        folder.check(targets, overwrite=settings.overwrite, resume=settings.resume)
        folder.make(targets)
        second = LabellingRound(settings, model, manifest, product.rule, human, folder, progress, alone=alone)
        made, failed = _candidates(share, again, second)
        if settings.shard is not None:
            log.info("candidates of a share: once all shares are made, the same command without --shard labels them")
            return PseudoLabelResult(model, made=made, failed=failed)
        lost = {failure.source for failure in failed}
        labelled = second.label([target for target in targets if target.source not in lost], failed)
    scenes, total = labelled.scenes, labelled.total
    return PseudoLabelResult(model, labelled.data, folder.report, scenes, total, made, failed=labelled.failed)


def context_of(settings: PseudoLabelConfig, progress: Progress) -> MapContext:
    """What the candidates of all scenes share in one process.

    Raises:
        Co2sError: what is wrong with the model, the device, or what is wanted of them.
    """
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    product = candidates_of(manifest, settings.agree)
    return MapContext.of(settings, ModelFile(model, manifest), product, progress=progress)


def _candidates(
    targets: Sequence[Target], settings: PseudoLabelConfig, second: LabellingRound
) -> tuple[tuple[MapResult, ...], tuple[Failure, ...]]:
    """What the model says of every scene that can be labelled, and the others."""
    progress, alone = second.progress, second.alone
    if settings.engine == "ray":
        from co2s_cli.jobs import on_ray

        unfit = each(targets, second.check, progress, alone=alone)
        lost = {failure.source for failure in unfit}
        fit = [target for target in targets if target.source not in lost]
        candidates, failed = on_ray.make_maps(context_of, settings, fit, progress, alone=alone)
        return candidates, (*unfit, *failed)
    context = context_of(settings, progress)
    made: list[MapResult] = []

    def make(target: Target) -> None:
        second.check(target)
        made.append(make_map(context, target))

    failed = each(targets, make, progress, alone=alone)
    return tuple(made), failed


def _check_data(settings: PseudoLabelConfig, human: HumanLabels, targets: Sequence[Target]) -> None:
    """Refuse how the model is to see the scenes where the data.yaml of the next round cannot say it."""
    if human.config is not None:
        wanted = len(human.config.bands)
        if settings.bands and len(settings.bands) != wanted:
            raise ConfigError(f"{settings.keep_labels}: names {wanted} bands, --bands picks {len(settings.bands)}")
        kind = human.sample_type
        for target in targets:
            if kind is not None and (found := _dtype(target)) not in (kind, None):
                raise InputError(
                    f"{target.source}: samples of {found}, the images of {settings.keep_labels} have {kind}",
                    hint="training takes one type: leave out the scene, or label it without --keep-labels",
                )
    elif settings.scale != "model":
        types = {dtype for target in targets if (dtype := _dtype(target)) is not None}
        if len(types) > 1:
            raise ConfigError(
                f"--scale {settings.scale}: the scenes have samples of {', '.join(sorted(types))}, "
                "and a data.yaml holds ranges for one type",
                hint="label the scenes of each type by a run of their own",
            )


def _dtype(target: Target) -> str | None:
    """Type of a scene's samples; None of one that cannot be opened, which is told in its turn."""
    try:
        return Scene.open(target.source).dtype
    except InputError:
        return None
