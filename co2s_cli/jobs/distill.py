"""Distill: one student learns from labels, unlabelled images, and frozen teachers of two kinds."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from co2s_cli.config.distill import DistillConfig, check_crop
from co2s_cli.data.dataset import Dataset
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.jobs.paths import check_run
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import SINGLE, DenseSpec, Manifest
from co2s_cli.models.teachers import Teacher, foundation
from co2s_cli.progress import SILENT, Progress
from co2s_cli.training import run as running
from co2s_cli.training import trained
from co2s_cli.training.methods.distill import Distill, DistillWeights
from co2s_cli.training.network import choose_trainable
from co2s_cli.training.run import RunResult
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import TrainingSetup
from co2s_cli.training.single import patch_of, single, spec_of


def run(settings: DistillConfig, *, progress: Progress = SILENT) -> RunResult:
    """Distill as `settings` say.

    Raises:
        ConfigError, InputError, ModelError: data, teachers or weights that do not fit; all before the first step.
        InterruptError: Ctrl-C; the last whole state stays.
    """
    check_run(settings)
    return running.run_training(settings, partial(lesson, settings), command="distill", progress=progress)


def lesson(settings: DistillConfig, data: Dataset, before: Manifest | None, runtime: Runtime) -> TrainingSetup:
    """The student and its teachers; `before` is the manifest of a run that is resumed."""
    guide = trained.teachers_of(settings.models, data, settings.combine, runtime.device) if settings.models else None
    known = before.students[SINGLE] if before else spec_of(settings)
    assert isinstance(known, DenseSpec)
    foundations = _foundations(settings, patch_of(known), runtime.device)
    names = [teacher.name for teacher in foundations]
    if guide is not None:
        names += [f"{path.name} {digest}" for path, digest in zip(settings.models, guide.digests, strict=True)]
    pair = (
        _resumed(settings, before, names)
        if before
        else _student(settings, data, known, foundations, teachers=names, taught_under=_licences(foundations, guide))
    )
    method = partial(
        Distill,
        weights=DistillWeights(settings.feature_weight, settings.soft_weight, settings.divisor, settings.temperature),
        foundations=foundations,
        soft=guide is not None,
        kind=settings.loss,
    )
    return TrainingSetup(pair.to(runtime.device), method, guide)


def _foundations(settings: DistillConfig, patch: int, device: torch.device) -> list[Teacher]:
    """The foundation models, less those of whom nothing is wanted."""
    check_crop(settings.crop, patch)
    if not settings.fuse and settings.feature_weight == 0:
        return []
    found = [foundation(text, patch=patch, statistics=settings.teacher_statistics) for text in settings.foundations]
    names = [teacher.name for teacher in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"--teacher: {' and '.join(names)} cannot be told apart", hint="rename the files of weights")
    return [teacher.to(device) for teacher in found]


def _student(
    settings: DistillConfig, data: Dataset, known: DenseSpec, foundations: list[Teacher], **facts: Any
) -> Ensemble:
    """The student with what it needs to speak to the foundation models; `facts` are for its manifest."""
    changes = {
        "translators": tuple(teacher.translator() for teacher in foundations),
        "alpha": settings.alpha,
        "align": settings.align,
        "fuse": settings.fuse,
    }
    return single(settings, data, known.model_copy(update=changes), **facts)


def _licences(foundations: list[Teacher], guide: trained.TrainedTeachers | None) -> list[str]:
    """What the teachers' licences say to those whom they taught."""
    dino = any("dinov3" in teacher.name and not teacher.name.endswith(":none") for teacher in foundations)
    told = [text for text in (guide.licences if guide is not None else ()) if text]
    return [
        *["taught by DINOv3, which carries Meta's DINOv3 licence"] * dino,
        *(f"taught by a model whose licence says: {text}" for text in told),
    ]


def _resumed(settings: DistillConfig, before: Manifest, names: list[str]) -> Ensemble:
    """The student of the run that is resumed, for its state to be loaded into."""
    began = before.training.get("teachers")
    if began != names:
        raise InputError(
            f"{settings.out}: its teachers have changed since this run began: {', '.join(names)} found, "
            f"{', '.join(began or ())} wanted",
            hint="start a new run",
        )
    return choose_trainable(settings, Ensemble(before))
