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
from co2s_cli.models.fresh import new_single
from co2s_cli.models.manifest import SINGLE, DenseSpec
from co2s_cli.models.pair import Pair
from co2s_cli.training.network import (
    FRESH_LAYER_SCALE,
    check_bands,
    load_for,
    manifest,
    opened,
    set_layer_scale,
    weights_of,
)

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


def single(settings: RunConfig, data: Dataset, spec: DenseSpec, **facts: Any) -> Pair:
    """The model of the student `spec` before the first step; `facts` join its manifest.

    Raises:
        InputError: bands that the student cannot see.
        ModelError: weights or a model file that do not fit.
    """
    check_bands(data)
    described = manifest(settings, data, {SINGLE: spec}, **facts)
    torch.manual_seed(settings.seed)  # what no weights fill is drawn here, and nothing later draws from this stream
    if settings.init is None:
        found = weights_of(settings)[SINGLE]
        pair = new_single(described, weights=found)
        if found == "none":
            set_layer_scale(pair.students[SINGLE], FRESH_LAYER_SCALE)
        return opened(settings, pair)
    old, pair = load_for(settings.init, data), Pair(described)
    before = old.manifest.students[SINGLE]
    assert isinstance(before, DenseSpec)
    tensors = old.state_dict()
    if spec.translators != before.translators:
        if before.translators:
            log.warning("%s: what it mixes into its features is left out, new teachers say other things", settings.init)
        fresh = {name: value for name, value in pair.state_dict().items() if ".fusion." in name}
        tensors = {name: value for name, value in tensors.items() if ".fusion." not in name} | fresh
    pair.load_state_dict(tensors)
    return opened(settings, pair)
