"""A model: its students as one module, built from the manifest, and the fusion of their probabilities."""

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
    """The one to three students of a model, with its manifest."""

    def __init__(self, manifest: Manifest, students: Mapping[str, nn.Module] | None = None) -> None:
        """`students`: those of the manifest, if they exist already; else they are built with random weights."""
        super().__init__()
        self.manifest = manifest
        self.digest = ""
        """SHA-256 of manifest and tensors in the model file; empty for a model that was not read from a file."""
        classes = len(manifest.classes)
        if students is None:
            students = {name: build_student(spec, classes) for name, spec in manifest.students.items()}
        self.students = nn.ModuleDict(students)

    def members(self, images: Tensor) -> dict[str, Tensor]:
        """Class probabilities of each student, (B, N, H, W) in float32, for images (B, C, H, W) in [0, 1]."""
        return {name: student(images).float().softmax(dim=1) for name, student in self.students.items()}

    def probabilities(self, images: Tensor, fusion: Fusion | None = None) -> Tensor:
        """Fused class probabilities (B, N, H, W), by `fusion`, else by the fusion in the manifest."""
        return fuse(self.members(images), fusion or self.manifest.fusion)


def deployed(ensemble: Ensemble) -> Ensemble:
    """A copy of the model without layers that only training needs; the model itself where it has none."""
    lean = {name: student.deployed() for name, student in ensemble.students.items()}  # type: ignore[operator]
    if all(lean[name] is student for name, student in ensemble.students.items()):
        return ensemble
    specs = {name: student.spec for name, student in lean.items()}
    return Ensemble(ensemble.manifest.model_copy(update={"students": specs}), lean)


def build_student(spec: StudentSpec, classes: int) -> Student:
    """A student of the kind that `spec` describes, with random weights."""
    if isinstance(spec, DenseSpec):
        return DenseStudent(spec, classes)
    if isinstance(spec, LocalSpec):
        return LocalStudent(spec, classes)
    return GuidedStudent(spec, classes)


def fuse(members: Mapping[str, Tensor], fusion: Fusion) -> Tensor:
    """One probability map (B, N, H, W) from those of the students.

    `mean` over the students, `confident`: at each pixel the student with the highest probability, or the map of the
    student that `fusion` names.
    """
    if fusion in members:
        return members[fusion]
    if set(members) == {SINGLE} and fusion in ("mean", "confident"):
        return members[SINGLE]
    if fusion in STUDENT_NAMES:
        raise ValueError(f"fusion {fusion}: this model holds only {', '.join(members)}")
    if fusion not in ("mean", "confident"):
        raise ValueError(f"fusion {fusion}: wants mean, confident or the name of a student")
    if fusion == "mean" and len(members) == 2:  # bit-identical to the mean of a stack, without a copy of both maps
        first, second = members.values()
        return (first + second).mul_(0.5)
    maps = torch.stack(list(members.values()))
    if fusion == "mean":
        return maps.mean(dim=0)
    surest = maps.amax(dim=2, keepdim=True).argmax(dim=0, keepdim=True)
    return maps.gather(0, surest.expand(1, *maps.shape[1:]))[0]


def learns_from_peer(own: Tensor, peer: Tensor, threshold: Tensor | float) -> Tensor:
    """Mask M of the stability loss (docs/method.md): True where a student learns from its peer.

    `own` and `peer` are the confidences of student and peer, of one shape. The peer's has to reach the threshold and to
    be no less than the student's.
    """
    return (peer >= threshold) & (peer >= own)
