"""New models: students by name, pretrained backbones, class vectors from text, everything else freshly drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog, pretrained, text
from co2s_cli.models.clip_training import NONE
from co2s_cli.models.dense import DenseStudent
from co2s_cli.models.manifest import SINGLE, Manifest, StudentSpec
from co2s_cli.models.pair import Pair


def new_pair(manifest: Manifest, *, clip_weights: str = "none", dino_weights: str = "none") -> Pair:
    """A model as `manifest` says, its backbones filled last of all, so that no initialisation can undo them."""
    pair = Pair(manifest)
    for name, weights in (("clip", clip_weights), ("dino", dino_weights)):
        if name in pair.students:
            spec = manifest.students[name]  # type: ignore[index]
            pretrained.load_weights(pair.students[name].backbone, spec.backbone.name, weights)  # type: ignore[arg-type]
    clip = manifest.students.get("clip")
    if isinstance(clip, StudentSpec) and clip.guidance == "explicit":
        vectors = explicit_vectors(manifest, clip_weights)
        pair.students["clip"].guidance.vectors.copy_(vectors)  # type: ignore[operator, union-attr]
    return pair


def new_single(manifest: Manifest, *, weights: str = "none") -> Pair:
    """A model of a single student as `manifest` says, its backbone filled last of all."""
    pair = Pair(manifest)
    student = pair.students[SINGLE]
    assert isinstance(student, DenseStudent)
    pretrained.load_weights(student.backbone, student.spec.backbone.name, weights)
    return pair


def explicit_vectors(manifest: Manifest, weights: str) -> Tensor:
    """The CLIP student's class vectors: by the text tower of `weights`, else a fixed table of orthogonal vectors.

    Without a text tower nothing can be read off the prompts: the table only tells the classes apart.
    """
    spec = manifest.students["clip"]
    assert isinstance(spec, StudentSpec)
    if weights != NONE and spec.backbone.name != catalog.TINY_CLIP:
        return text.class_vectors(manifest.class_map, spec.backbone.name, weights)
    return plain_table(manifest.class_map, spec.guidance_width)


def plain_table(classes: ClassMap, width: int) -> Tensor:
    """Unit vectors (N, width), orthogonal while N ≤ width; the same for the same N and width."""
    generator = torch.Generator().manual_seed(len(classes))
    drawn = torch.randn(max(len(classes), width), width, generator=generator)
    basis = torch.linalg.qr(drawn.T if len(classes) <= width else drawn)[0]
    rows = basis.T if len(classes) <= width else basis
    return torch.nn.functional.normalize(rows[: len(classes)], dim=-1).contiguous()
