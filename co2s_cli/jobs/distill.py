"""Distil one student from labels, unlabelled images, frozen foundation models and frozen trained models."""

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
    """Train the student; returns the figures of the run.

    Raises:
        ConfigError, InputError, ModelError: data, teachers or weights that do not fit; raised before the first step.
        InterruptError: Ctrl-C; the last complete state of the run stays.
    """
    check_run(settings)
    return running.run_training(settings, partial(lesson, settings), command="distill", progress=progress)


def lesson(settings: DistillConfig, data: Dataset, before: Manifest | None, runtime: Runtime) -> TrainingSetup:
    """The student, the distillation method and the trained teachers.

    `before` is the manifest of the student of a run that is resumed; None for a new run.
    """
    trained_teachers = (
        trained.teachers_of(settings.models, data, settings.combine, runtime.device) if settings.models else None
    )
    spec = before.students[SINGLE] if before else spec_of(settings)
    assert isinstance(spec, DenseSpec)
    foundations = _foundations(settings, patch_of(spec), runtime.device)
    names = [teacher.name for teacher in foundations]
    if trained_teachers is not None:
        digests = trained_teachers.digests
        names += [f"{path.name} {digest}" for path, digest in zip(settings.models, digests, strict=True)]
    if before:
        ensemble = _resumed(settings, before, names)
    else:
        licences = _licences(foundations, trained_teachers)
        ensemble = _student(settings, data, spec, foundations, teachers=names, taught_under=licences)
    method = partial(
        Distill,
        weights=DistillWeights(settings.feature_weight, settings.soft_weight, settings.divisor, settings.temperature),
        foundations=foundations,
        soft=trained_teachers is not None,
        kind=settings.loss,
    )
    return TrainingSetup(ensemble.to(runtime.device), method, trained_teachers)


def _foundations(settings: DistillConfig, patch: int, device: torch.device) -> list[Teacher]:
    """The foundation models on the device; none if the settings use their features neither in the loss nor fused."""
    check_crop(settings.crop, patch)
    if not settings.fuse and settings.feature_weight == 0:
        return []
    teachers = [foundation(text, patch=patch, statistics=settings.teacher_statistics) for text in settings.foundations]
    names = [teacher.name for teacher in teachers]
    if len(set(names)) < len(names):
        raise ConfigError(f"--teacher: {' and '.join(names)} cannot be told apart", hint="rename the files of weights")
    return [teacher.to(device) for teacher in teachers]


def _student(
    settings: DistillConfig, data: Dataset, spec: DenseSpec, foundations: list[Teacher], **facts: Any
) -> Ensemble:
    """A new student with translators to the features of the foundation models; `facts` go into its manifest."""
    changes = {
        "translators": tuple(teacher.translator() for teacher in foundations),
        "alpha": settings.alpha,
        "align": settings.align,
        "fuse": settings.fuse,
    }
    return single(settings, data, spec.model_copy(update=changes), **facts)


def _licences(foundations: list[Teacher], trained_teachers: trained.TrainedTeachers | None) -> list[str]:
    """Licence remarks for the manifest of a student, by the licences of its teachers."""
    dino = any("dinov3" in teacher.name and not teacher.name.endswith(":none") for teacher in foundations)
    licences = [text for text in (trained_teachers.licences if trained_teachers is not None else ()) if text]
    return [
        *["taught by DINOv3, which carries Meta's DINOv3 licence"] * dino,
        *(f"taught by a model whose licence says: {text}" for text in licences),
    ]


def _resumed(settings: DistillConfig, before: Manifest, names: list[str]) -> Ensemble:
    """The student of a resumed run, before its state is loaded; refused if its teachers have changed."""
    teachers_at_start = before.training.get("teachers")
    if teachers_at_start != names:
        raise InputError(
            f"{settings.out}: its teachers have changed since this run began: {', '.join(names)} found, "
            f"{', '.join(teachers_at_start or ())} wanted",
            hint="start a new run",
        )
    return choose_trainable(settings, Ensemble(before))
