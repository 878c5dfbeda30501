"""Builds the training engine of a run from its settings and data: plan, loader, method, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from co2s_cli.config.base import read_yaml
from co2s_cli.config.run import RunConfig
from co2s_cli.config.train import TrainConfig
from co2s_cli.data.dataset import Dataset
from co2s_cli.data.loader import BatchPlan, Loader
from co2s_cli.data.strong import NO_NOISE, BandNoise, Strength, rgb_places
from co2s_cli.errors import ConfigError
from co2s_cli.inference.model import DTYPES, pick_precision
from co2s_cli.inference.sliding import Sliding, published_stride, stride_of
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.progress import Progress
from co2s_cli.resources import cores
from co2s_cli.scoring.samples import sample_areas, sample_views
from co2s_cli.scoring.validation import ValidationCounts, evaluate
from co2s_cli.training.ema import Ema
from co2s_cli.training.engine import TrainingEngine, TrainingPlan
from co2s_cli.training.methods import MethodRules, Supervised
from co2s_cli.training.network import sees_one_view
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.schedule import steps_per_epoch
from co2s_cli.training.step import StudentStep
from co2s_cli.training.step_loss import StepSums
from co2s_cli.training.views import Guide, StudentForward

_MAX_CLASS_WEIGHT = 1_000_000
"""Largest class weight that a file may give; sums of losses with it stay far below the largest float32."""

MOST_CROP_THREADS = 8
"""Most threads that draw crops. One draws about 5 batches of 8 + 8 crops of 512 pixels a second: 8 outpace any GPU."""

OTHER_BANDS = BandNoise(gain=0.2, offset=0.05, noise=0.02)
"""Random changes of each band in strong views of images that are not red, green, blue: they have no hue to change."""


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The model to train, the method, and the source of the pseudo-labels."""

    ensemble: Ensemble
    """The students, already on the device."""
    method: Callable[[MethodRules], Supervised]
    """Makes the method from the loss settings of the run."""
    guide: Guide | None = None
    """The frozen model that makes the pseudo-labels; None: each student itself, or the running mean of its weights."""


def engine_for(
    settings: RunConfig,
    data: Dataset,
    setup: TrainingSetup,
    runtime: Runtime,
    *,
    folder: Path,
    steps: int,
    processes: int,
    refit: bool = False,
    progress: Progress,
) -> TrainingEngine:
    """The engine of a run of `steps` steps in all.

    `processes`: how many the run began with, which on a resume may differ from how many there are now. `refit`: the
    second half trains again from the initial weights, with all labels.
    """
    plan = plan_of(settings, steps, refit=refit, epoch_steps=epoch_steps_of(settings, data, processes))
    sums = StepSums(runtime)
    rules = rules_of(settings, data, plan.schedule_steps, sums)
    method = setup.method(rules)
    precision = pick_precision(settings.precision, runtime.device)
    ema = Ema(setup.ensemble, settings.ema) if settings.ema else None
    sliding = sliding_of(settings, processes)

    def validate(model: Ensemble) -> ValidationCounts:
        counts = evaluate(
            model,
            data.val,
            data.applied_scaling,
            sliding,
            threshold=rules.threshold,
            device=runtime.device,
            dtype=DTYPES[precision],
            rank=runtime.rank,
            ranks=runtime.ranks,
        )
        summed = runtime.summed(torch.from_numpy(counts.vector()).to(runtime.device))
        return counts.with_vector(summed.cpu().numpy())

    crops = sample_areas(data.val, settings.crop, whole=sliding.short_side is not None)
    views = partial(
        sample_views,
        areas=crops,
        scaling=data.applied_scaling,
        sliding=sliding,
        device=runtime.device,
        dtype=DTYPES[precision],
    )
    return TrainingEngine(
        setup.ensemble,
        student_steps(settings, setup, method, ema, dtype=DTYPES[precision]),
        loader_of(
            settings, data, runtime, views=method.required.strong, whole_from=plan.schedule_steps, processes=processes
        ),
        plan,
        runtime,
        sums=sums,
        folder=folder,
        settings={**settings.deciding(), "processes": processes, "whole_run": steps},
        validate=validate,
        sample_views=views,
        progress=progress,
        ema=ema,
        guided=setup.guide is not None,
        half=precision == "fp16" and runtime.device.type == "cuda",
    )


def loader_of(
    settings: RunConfig, data: Dataset, runtime: Runtime, *, views: int, whole_from: int = 0, processes: int = 1
) -> Loader:
    """The loader of this rank, for a run that began with `processes`; `views` is the number of strong views.

    From step `whole_from` on it draws from all labels, those held back for validation included.
    """
    plan = BatchPlan(
        seed=settings.seed,
        batch=settings.batch,
        crop=settings.crop,
        rank=runtime.rank,
        ranks=runtime.ranks,
        accumulate=settings.accumulate,
        share=share_of(settings, processes),
        apart=settings.denominators == "rank",
        views=views,
        partner=settings.cutmix_partner,
        strength=strength_of(settings, data.bands),
        labeled_bands=BandNoise(settings.labeled_gain, settings.labeled_offset, settings.labeled_noise),
        labeled_paste=settings.labeled_paste,
        rgb=rgb_places(data.bands),
    )
    pinned = runtime.device.type == "cuda"
    return Loader(
        data.labeled, data.unlabeled, plan, threads=settings.workers or crop_threads(runtime), pinned=pinned,
        whole=data.whole, whole_from=whole_from,
    )  # fmt: skip


def crop_threads(runtime: Runtime) -> int:
    """Threads that draw crops if the settings give no number: 2 on a CPU, where the networks need the other cores."""
    return min(MOST_CROP_THREADS, cores(runtime.ranks)) if runtime.device.type == "cuda" else 2


def student_steps(
    settings: RunConfig, setup: TrainingSetup, method: Supervised, ema: Ema | None, *, dtype: torch.dtype
) -> dict[str, StudentStep]:
    """Each student, by name, with its method and with the model that makes its pseudo-labels."""
    steps = {}
    for number, (name, student) in enumerate(setup.ensemble.students.items()):
        guide = setup.guide
        if guide is None and ema is not None:
            guide = StudentForward(ema.module.students[name], compiled=settings.compile).probabilities  # type: ignore[arg-type]
        steps[name] = StudentStep(
            student,  # type: ignore[arg-type]
            method,
            number=number,
            seed=settings.seed,
            guide=guide,
            dtype=dtype,
            compiled=settings.compile,
            checkpointed=settings.checkpointing,
        )
    return steps


def strength_of(settings: RunConfig, bands: Sequence[str]) -> Strength:
    """Strength of the strong views. By default each band varies by itself, unless the bands are red, green and blue."""
    default = NO_NOISE if len(bands) == 3 and rgb_places(bands) else OTHER_BANDS
    configured = (settings.strong_gain, settings.strong_offset, settings.strong_noise)
    defaults = (default.gain, default.offset, default.noise)
    noise = BandNoise(*(limit if value is None else value for value, limit in zip(configured, defaults, strict=True)))
    return Strength(settings.strong_jitter, settings.strong_hue, settings.strong_gray, settings.strong_blur, noise)


def share_of(settings: RunConfig, processes: int) -> int:
    """Crops of a batch for each of `processes`, rounded up."""
    return -(-settings.batch // processes)


def epoch_steps_of(settings: RunConfig, data: Dataset, processes: int) -> int:
    """Steps of one pass over the unlabelled images, or over the labelled ones where there are no unlabelled ones."""
    images = len(data.unlabeled or data.labeled)
    # the accumulated batches of a step count as batches of so many more ranks
    return steps_per_epoch(images, ranks=processes * settings.accumulate, batch=share_of(settings, processes))


def plan_of(settings: RunConfig, steps: int, *, epoch_steps: int, refit: bool = False) -> TrainingPlan:
    """The plan of a run of `steps` steps in all; `epoch_steps`: steps of one pass over the images."""
    tenth = max(1, -(-steps // (20 if refit else 10)))  # of the steps that are validated
    return TrainingPlan(
        steps=steps,
        refit=refit,
        lr=settings.lr,
        backbone_lr=settings.backbone_lr,
        decoder_lr=settings.decoder_lr,
        queries_lr=settings.queries_lr,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        lr_lag=settings.lr_lag,
        schedule=settings.schedule,
        clip_norm=settings.clip_norm,
        val_every=epoch_steps if settings.val_every == "epoch" else settings.val_every or tenth,
        log_every=settings.log_every,
        shared_counts=settings.denominators == "all",
        half_files=settings.half_files,
        select_students=settings.select == "students",
    )


def rules_of(settings: RunConfig, data: Dataset, steps: int, sums: StepSums) -> MethodRules:
    """The loss settings of a run, for schedules of `steps` steps."""
    device = sums.device
    rules = MethodRules(
        threshold=_thresholds(settings, data).to(device),
        steps=steps,
        class_weights=_class_weights(settings, data, device),
        labeled_balance=settings.labeled_balance,
        threshold_share=settings.threshold_share,
        pseudo_balance=settings.pseudo_balance,
        consistency_start=settings.consistency_start,
        consistency_after=settings.consistency_after,
        consistency_ramp=settings.consistency_ramp,
        summed=sums,
    )
    if not isinstance(settings, TrainConfig):  # distillation trains one student: no peer, no stability loss
        return rules
    return replace(
        rules,
        stability_weight=settings.stability_weight,
        ramp_share=settings.stability_ramp,
        stability_grad=settings.stability_grad,
        stability_in_padding=settings.stability_in_padding,
        single_view=sees_one_view(settings, data.bands),
    )


def check_rules(settings: RunConfig, data: Dataset) -> None:
    """Refuse thresholds and weights of classes that are not the data's.

    Raises:
        ConfigError: names the classes or the weight.
    """
    _thresholds(settings, data)
    _class_weights(settings, data, torch.device("cpu"))


def sliding_of(settings: RunConfig, processes: int = 1) -> Sliding:
    """The sliding window of validation, with as many windows in a batch as each of `processes` has crops."""
    tile = settings.eval_tile or settings.crop
    stride = published_stride if settings.preset == "published" else stride_of
    return Sliding(
        tile=tile,
        stride=stride(tile, settings.eval_overlap),
        blend=settings.eval_blend,
        taper=settings.eval_taper,
        short_side=settings.eval_resize or None,
        batch=share_of(settings, processes),
    )


def _thresholds(settings: RunConfig, data: Dataset) -> Tensor:
    unknown = settings.class_thresholds.keys() - set(data.classes.names)
    if unknown:
        raise ConfigError(f"class_thresholds: {', '.join(sorted(unknown))} is no class of the data")
    return torch.tensor([settings.class_thresholds.get(name, settings.threshold) for name in data.classes.names])


def _class_weights(settings: RunConfig, data: Dataset, device: torch.device) -> Tensor | None:
    """Weights (N,) by class, of mean 1: inverse root of the labelled pixels, or from a file; None: no weights."""
    if settings.class_weights == "none":
        return None
    if settings.class_weights == "frequency":
        counts = torch.tensor(data.counts, dtype=torch.float32).clamp_min(1)
        weights = counts.rsqrt()
    else:
        weights = _read_class_weights(Path(settings.class_weights), data)
    return (weights / weights.mean()).to(device)


def _read_class_weights(path: Path, data: Dataset) -> Tensor:
    """The weights (N,) that a YAML file gives to the classes."""
    values = read_yaml(path)
    names = {name.replace("-", "_"): name for name in data.classes.names}  # read_yaml turns - into _ in keys
    differing = set(values) ^ set(names)
    if differing:
        raise ConfigError(f"{path}: wants name: weight for each class, differs in {', '.join(sorted(differing))}")
    weights = torch.tensor([_checked_weight(path, name, values[key]) for key, name in names.items()])
    if not weights.any():
        raise ConfigError(f"{path}: every class weighs 0, at least one must have a weight above 0")
    return weights


def _checked_weight(path: Path, name: str, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight <= _MAX_CLASS_WEIGHT:
        raise ConfigError(f"{path}: {name} weighs {value!r}, a number from 0 to {_MAX_CLASS_WEIGHT:,} is wanted")
    return weight
