"""Settings and data → an engine ready to run."""

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
from co2s_cli.inference.memory import cores
from co2s_cli.inference.model import DTYPES, pick_precision
from co2s_cli.inference.sliding import Sliding, published_stride, stride_of
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.progress import Progress
from co2s_cli.scoring.samples import sample_areas, sample_views
from co2s_cli.scoring.validation import ValidationCounts, evaluate
from co2s_cli.training.ema import Ema
from co2s_cli.training.engine import Course, TrainingEngine
from co2s_cli.training.methods import MethodRules, Supervised
from co2s_cli.training.network import sees_one_view
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.schedule import steps_per_epoch
from co2s_cli.training.step import Guide, Passes, StepSums, StudentStep

_HEAVIEST = 1_000_000
"""Largest weight of a class in a file; with it sums of losses are still far from what float32 holds."""

MOST_CROP_THREADS = 8
"""One draws some 5 batches of 8 + 8 crops of 512 pixels a second, so that they stay ahead of any GPU."""

OTHER_BANDS = BandNoise(gain=0.2, offset=0.05, noise=0.02)
"""Changes of each band in strong views of images that are not just red, green and blue: they have no hue to turn."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Who learns, and how."""

    pair: Ensemble
    """On the device already."""
    method: Callable[[MethodRules], Supervised]
    guide: Guide | None = None
    """Who gives the pseudo-labels; None: the student itself, or the running mean of its weights."""


def engine_for(
    settings: RunConfig,
    data: Dataset,
    lesson: Lesson,
    runtime: Runtime,
    *,
    folder: Path,
    steps: int,
    processes: int,
    refit: bool = False,
    progress: Progress,
) -> TrainingEngine:
    """The engine of a run of `steps` steps that `processes` began, in whose second half all labels teach if `refit`."""
    course = course_of(settings, steps, refit=refit, epoch_steps=epoch_steps_of(settings, data, processes))
    sums = StepSums(runtime)
    rules = rules_of(settings, data, course.judged, sums)
    method = lesson.method(rules)
    precision = pick_precision(settings.precision, runtime.device)
    ema = Ema(lesson.pair, settings.ema) if settings.ema else None
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
        return counts.filled(summed.cpu().numpy())

    crops = sample_areas(data.val, settings.crop, whole=sliding.short_side is not None)
    look = partial(
        sample_views,
        areas=crops,
        scaling=data.applied_scaling,
        sliding=sliding,
        device=runtime.device,
        dtype=DTYPES[precision],
    )
    return TrainingEngine(
        lesson.pair,
        student_steps(settings, lesson, method, ema, dtype=DTYPES[precision]),
        loader_of(settings, data, runtime, views=method.wants.strong, whole_from=course.judged, processes=processes),
        course,
        runtime,
        sums=sums,
        folder=folder,
        settings={**settings.deciding(), "processes": processes, "whole_run": steps},
        validate=validate,
        look=look,
        progress=progress,
        ema=ema,
        guided=lesson.guide is not None,
        half=precision == "fp16" and runtime.device.type == "cuda",
    )


def loader_of(
    settings: RunConfig, data: Dataset, runtime: Runtime, *, views: int, whole_from: int = 0, processes: int = 1
) -> Loader:
    """The batches of this rank, with `views` strong views of the unlabelled crops, of a run that `processes` began.

    From step `whole_from` on all labels are drawn from, where the data holds some back until then.
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
        rgb=rgb_places(data.bands),
    )
    pinned = runtime.device.type == "cuda"
    return Loader(
        data.labeled, data.unlabeled, plan, threads=settings.workers or crop_threads(runtime), pinned=pinned,
        whole=data.whole, whole_from=whole_from,
    )  # fmt: skip


def crop_threads(runtime: Runtime) -> int:
    """Threads that draw crops where the settings do not say it: on a CPU the networks want the other cores."""
    return min(MOST_CROP_THREADS, cores(runtime.ranks)) if runtime.device.type == "cuda" else 2


def student_steps(
    settings: RunConfig, lesson: Lesson, method: Supervised, ema: Ema | None, *, dtype: torch.dtype
) -> dict[str, StudentStep]:
    """Each student with its method and with whoever gives it pseudo-labels."""
    made = {}
    for number, (name, student) in enumerate(lesson.pair.students.items()):
        guide = lesson.guide
        if guide is None and ema is not None:
            guide = Passes(ema.module.students[name], compiled=settings.compile).probabilities  # type: ignore[arg-type]
        made[name] = StudentStep(
            student,  # type: ignore[arg-type]
            method,
            number=number,
            seed=settings.seed,
            guide=guide,
            dtype=dtype,
            compiled=settings.compile,
            checkpointed=settings.checkpointing,
        )
    return made


def strength_of(settings: RunConfig, bands: Sequence[str]) -> Strength:
    """Of the strong views. Bands other than red, green, blue change by themselves where the settings do not say it."""
    usual = NO_NOISE if len(bands) == 3 and rgb_places(bands) else OTHER_BANDS
    given = (settings.strong_gain, settings.strong_offset, settings.strong_noise)
    limits = (usual.gain, usual.offset, usual.noise)
    own = BandNoise(*(limit if value is None else value for value, limit in zip(given, limits, strict=True)))
    return Strength(settings.strong_jitter, settings.strong_hue, settings.strong_gray, settings.strong_blur, own)


def share_of(settings: RunConfig, processes: int) -> int:
    """Crops of a batch that fall to each of `processes`."""
    return -(-settings.batch // processes)


def epoch_steps_of(settings: RunConfig, data: Dataset, processes: int) -> int:
    """Steps of one pass over the unlabelled images, or over the labelled ones where there are no others."""
    images = len(data.unlabeled or data.labeled)
    # batches that make one step together are what so many GPUs would see of it
    return steps_per_epoch(images, ranks=processes * settings.accumulate, batch=share_of(settings, processes))


def course_of(settings: RunConfig, steps: int, *, epoch_steps: int, refit: bool = False) -> Course:
    """Length and pace of the run."""
    tenth = max(1, -(-steps // (20 if refit else 10)))
    return Course(
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
    """What the method is told."""
    device = sums.device
    rules = MethodRules(
        threshold=_thresholds(settings, data).to(device),
        steps=steps,
        class_weights=_class_weights(settings, data, device),
        threshold_share=settings.threshold_share,
        pseudo_balance=settings.pseudo_balance,
        consistency_start=settings.consistency_start,
        consistency_after=settings.consistency_after,
        consistency_ramp=settings.consistency_ramp,
        summed=sums,
    )
    if not isinstance(settings, TrainConfig):  # without a peer there is no stability loss
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
    """Refuse thresholds and weights of classes that do not fit the data."""
    _thresholds(settings, data)
    _class_weights(settings, data, torch.device("cpu"))


def sliding_of(settings: RunConfig, processes: int = 1) -> Sliding:
    """How validation makes maps, with as many windows at once as `processes` have crops each."""
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
    """Weights by class, of mean 1: none, by the inverse root of the labelled pixels, or from a file."""
    if settings.class_weights == "none":
        return None
    if settings.class_weights == "frequency":
        counts = torch.tensor(data.counts, dtype=torch.float32).clamp_min(1)
        weights = counts.rsqrt()
    else:
        weights = _weights_in(Path(settings.class_weights), data)
    return (weights / weights.mean()).to(device)


def _weights_in(path: Path, data: Dataset) -> Tensor:
    """The weights that a YAML file gives to the classes."""
    named = read_yaml(path)
    names = {name.replace("-", "_"): name for name in data.classes.names}  # as the file's keys are read
    wrong = set(named) ^ set(names)
    if wrong:
        raise ConfigError(f"{path}: wants name: weight for each class, differs in {', '.join(sorted(wrong))}")
    weights = torch.tensor([_weight(path, name, named[key]) for key, name in names.items()])
    if not weights.any():
        raise ConfigError(f"{path}: every class weighs 0, one at least is to be learnt")
    return weights


def _weight(path: Path, name: str, found: Any) -> float:
    try:
        weight = float(found)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight <= _HEAVIEST:
        raise ConfigError(f"{path}: {name} weighs {found!r}, a number from 0 to {_HEAVIEST:,} is wanted")
    return weight
