"""The one dense student that a run trains: new, or from a model file."""

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
from co2s_cli.training.network import begun_from, drawn, manifest, opened

log = logging.getLogger(__name__)


def spec_of(settings: RunConfig) -> DenseSpec:
    """What the settings' student is, by its name or by the model file to start from."""
    if settings.init is None:
        return catalog.dense_student(str(settings.student))
    students = weights.read_manifest(settings.init).students
    spec = students.get(SINGLE)
    if not isinstance(spec, DenseSpec):
        raise ModelError(f"{settings.init}: holds {' and '.join(students)}, no single student to start from")
    return spec


def patch_of(spec: DenseSpec) -> int:
    """Side of a student's patches in pixels."""
    with torch.device("meta"):  # its size is wanted, not its numbers
        return TimmBackbone(spec.backbone, spec.taps).patch


def single(settings: RunConfig, data: Dataset, spec: DenseSpec, **facts: Any) -> Ensemble:
    """The model of the student `spec` before the first step; `facts` join its manifest.

    Raises:
        ModelError: weights or a model file that do not fit.
    """
    described = manifest(settings, data, {SINGLE: catalog.for_bands(spec, data.bands)}, **facts)
    target = drawn(settings, described, known=[SINGLE] if settings.init else [])
    if settings.init is None:
        return opened(settings, target)
    source = weights.load(settings.init)
    before = source.manifest.students[SINGLE]
    assert isinstance(before, DenseSpec)
    leave = []
    if spec.translators != before.translators:
        leave = ["fusion."]
        if before.translators:
            log.warning("%s: what it mixes into its features is left out, new teachers say other things", settings.init)
    return opened(settings, begun_from(settings, source, target, leave=leave))
