"""New models: pretrained backbones, class vectors from text prompts, random weights everywhere else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog, text
from co2s_cli.models.clip_training import NONE
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import GuidedSpec, Manifest


def new_ensemble(manifest: Manifest, weights: Mapping[str, str] | None = None) -> Ensemble:
    """The model that `manifest` describes. Backbone weights are loaded last, so that no initialisation overwrites them.

    `weights`: by student a tag, a file or `none`; `none` for students that it does not name.
    """
    weights_by_name = weights or {}
    ensemble = Ensemble(manifest)
    for name, student in ensemble.students.items():
        student.load_pretrained(weights_by_name.get(name, NONE))  # type: ignore[operator]
    read_prompts(ensemble, weights_by_name)
    return ensemble


def read_prompts(ensemble: Ensemble, weights: Mapping[str, str]) -> None:
    """Set the class vectors of explicitly guided students from the classes' prompts, by their weights' text tower."""
    for name, student in ensemble.students.items():
        spec = ensemble.manifest.students[name]  # type: ignore[index]
        if isinstance(spec, GuidedSpec) and spec.guidance == "explicit":
            vectors = explicit_vectors(ensemble.manifest.class_map, spec, weights.get(name, NONE))
            student.guidance.vectors.copy_(vectors)  # type: ignore[operator, union-attr]


def explicit_vectors(classes: ClassMap, spec: GuidedSpec, weights: str) -> Tensor:
    """Class vectors (N, width): from the prompts by the text tower of `weights`, else fixed orthogonal vectors.

    The fixed vectors of a student without a text tower only tell the classes apart, whatever the prompts.
    """
    if weights != NONE and spec.backbone.name != catalog.TINY_CLIP:
        return text.class_vectors(classes, spec.backbone.name, weights)
    return plain_table(classes, spec.guidance_width)


def plain_table(classes: ClassMap, width: int) -> Tensor:
    """Unit vectors (N, width), orthogonal while N ≤ width; the same for the same N and width."""
    generator = torch.Generator().manual_seed(len(classes))
    random = torch.randn(max(len(classes), width), width, generator=generator)
    basis = torch.linalg.qr(random.T if len(classes) <= width else random)[0]
    rows = basis.T if len(classes) <= width else basis
    return torch.nn.functional.normalize(rows[: len(classes)], dim=-1).contiguous()
