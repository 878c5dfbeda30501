"""Runs that train a single dense student: the student before the first step, new or from a model file."""

from __future__ import annotations

import logging
from typing import Any

import torch

from co2s_cli.config.run import RunConfig
from co2s_cli.data.dataset import Dataset
from co2s_cli.errors import ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import SINGLE, DenseSpec
from co2s_cli.training.network import build_model, choose_trainable, model_manifest, start_from

log = logging.getLogger(__name__)


def spec_of(settings: RunConfig) -> DenseSpec:
    """The specification of the student: that of the model file `init`, else by the name `student`.

    Raises:
        ModelError: the model file holds no single student.
    """
    if settings.init is None:
        return catalog.dense_student(str(settings.student))
    students = weights.read_manifest(settings.init).students
    spec = students.get(SINGLE)
    if not isinstance(spec, DenseSpec):
        raise ModelError(f"{settings.init}: holds {' and '.join(students)}, no single student to start from")
    return spec


def patch_of(spec: DenseSpec) -> int:
    """Side of the patches of a student's transformer, in pixels."""
    with torch.device("meta"):  # only the patch size is needed: no memory for weights
        return TimmBackbone(spec.backbone, spec.taps).patch


def single(settings: RunConfig, data: Dataset, spec: DenseSpec, **facts: Any) -> Ensemble:
    """The model with the one student `spec` before the first step; `facts` are added to its manifest.

    Raises:
        ModelError: weights or a model file that do not fit.
    """
    manifest = model_manifest(settings, data, {SINGLE: catalog.for_bands(spec, data.bands)}, **facts)
    target = build_model(settings, manifest, from_file=[SINGLE] if settings.init else [])
    if settings.init is None:
        return choose_trainable(settings, target)
    source = weights.load(settings.init)
    source_spec = source.manifest.students[SINGLE]
    assert isinstance(source_spec, DenseSpec)
    leave = []
    if spec.translators != source_spec.translators:
        leave = ["fusion."]
        if source_spec.translators:
            log.warning("%s: its fusion layers are not taken, they were trained with other teachers", settings.init)
    return choose_trainable(settings, start_from(settings, source, target, leave=leave))
