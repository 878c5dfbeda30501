"""Two students as one module, and the ways to fuse what they say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from co2s_cli.models.manifest import Fusion, Manifest
from co2s_cli.models.student import Student


class Pair(nn.Module):
    """The students of one model, with its manifest. A pair may have lost one student: imported files may hold one."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.manifest = manifest
        self.digest = ""
        """SHA-256 of manifest and tensors as they were read; empty for a model that came from no file."""
        classes = len(manifest.classes)
        self.students = nn.ModuleDict({name: Student(spec, classes) for name, spec in manifest.students.items()})

    def members(self, images: Tensor) -> dict[str, Tensor]:
        """Class probabilities of each student, (B, N, H, W) in float32, for images (B, C, H, W) in [0, 1]."""
        return {name: student(images).float().softmax(dim=1) for name, student in self.students.items()}

    def probabilities(self, images: Tensor, fusion: Fusion | None = None) -> Tensor:
        """Fused class probabilities (B, N, H, W); without `fusion` the model's own."""
        return fuse(self.members(images), fusion or self.manifest.fusion)


def fuse(members: Mapping[str, Tensor], fusion: Fusion) -> Tensor:
    """One probability map from the students' maps: their mean, the surer one per pixel, or one student's alone."""
    if fusion in members:
        return members[fusion]
    if fusion in ("clip", "dino"):
        raise ValueError(f"fusion {fusion}: this model holds only {', '.join(members)}")
    if fusion not in ("mean", "confident"):
        raise ValueError(f"fusion {fusion}: wants mean, confident, clip or dino")
    maps = torch.stack(list(members.values()))
    if fusion == "mean":
        return maps.mean(dim=0)
    surest = maps.amax(dim=2, keepdim=True).argmax(dim=0, keepdim=True)
    return maps.gather(0, surest.expand(1, *maps.shape[1:]))[0]
