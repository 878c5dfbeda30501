"""The students of a model as one module, the one place that builds them, and the ways to fuse what they say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from co2s_cli.models.dense import DenseStudent
from co2s_cli.models.guided import GuidedStudent
from co2s_cli.models.local import LocalStudent
from co2s_cli.models.manifest import SINGLE, DenseSpec, LocalSpec, Manifest, StudentSpec
from co2s_cli.models.student import Student
from co2s_cli.students import STUDENT_NAMES, Fusion


class Ensemble(nn.Module):
    """The students of one model, one to three, with its manifest."""

    def __init__(self, manifest: Manifest, students: Mapping[str, nn.Module] | None = None) -> None:
        """`students`: those that the manifest describes, where they are built already; else they are freshly drawn."""
        super().__init__()
        self.manifest = manifest
        self.digest = ""
        """SHA-256 of manifest and tensors as they were read; empty for a model that came from no file."""
        classes = len(manifest.classes)
        if students is None:
            students = {name: build_student(spec, classes) for name, spec in manifest.students.items()}
        self.students = nn.ModuleDict(students)

    def members(self, images: Tensor) -> dict[str, Tensor]:
        """Class probabilities of each student, (B, N, H, W) in float32, for images (B, C, H, W) in [0, 1]."""
        return {name: student(images).float().softmax(dim=1) for name, student in self.students.items()}

    def probabilities(self, images: Tensor, fusion: Fusion | None = None) -> Tensor:
        """Fused class probabilities (B, N, H, W); without `fusion` the model's own."""
        return fuse(self.members(images), fusion or self.manifest.fusion)


def deployed(ensemble: Ensemble) -> Ensemble:
    """The same model without what only training needs, as another one; itself where there is nothing of the kind."""
    lean = {name: student.deployed() for name, student in ensemble.students.items()}  # type: ignore[operator]
    if all(lean[name] is student for name, student in ensemble.students.items()):
        return ensemble
    specs = {name: student.spec for name, student in lean.items()}
    return Ensemble(ensemble.manifest.model_copy(update={"students": specs}), lean)


def build_student(spec: StudentSpec, classes: int) -> Student:
    """A freshly drawn student of the kind that `spec` describes."""
    if isinstance(spec, DenseSpec):
        return DenseStudent(spec, classes)
    if isinstance(spec, LocalSpec):
        return LocalStudent(spec, classes)
    return GuidedStudent(spec, classes)


def fuse(members: Mapping[str, Tensor], fusion: Fusion) -> Tensor:
    """One probability map from the students' maps: their mean, the surer one per pixel, or one student's alone."""
    if fusion in members:
        return members[fusion]
    if set(members) == {SINGLE} and fusion in ("mean", "confident"):
        return members[SINGLE]
    if fusion in STUDENT_NAMES:
        raise ValueError(f"fusion {fusion}: this model holds only {', '.join(members)}")
    if fusion not in ("mean", "confident"):
        raise ValueError(f"fusion {fusion}: wants mean, confident or the name of a student")
    if fusion == "mean" and len(members) == 2:  # the same bits as the mean of a stack, which is copied for it first
        first, second = members.values()
        return (first + second).mul_(0.5)
    maps = torch.stack(list(members.values()))
    if fusion == "mean":
        return maps.mean(dim=0)
    surest = maps.amax(dim=2, keepdim=True).argmax(dim=0, keepdim=True)
    return maps.gather(0, surest.expand(1, *maps.shape[1:]))[0]


def learns(own: Tensor, peer: Tensor, threshold: Tensor | float) -> Tensor:
    """Where a student learns from its peer (spec §4, M), for their confidences `own` and `peer` of one shape.

    The peer's confidence has to reach the threshold, and to be no less than the student's.
    """
    return (peer >= threshold) & (peer >= own)
