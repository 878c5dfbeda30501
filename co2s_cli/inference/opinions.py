"""A product with the fused map, its confidence, the students' disagreement, and the class of each student alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.inference.products import LandCover, Plane, distance, most_probable
from co2s_cli.models.ensemble import fuse
from co2s_cli.models.manifest import Manifest
from co2s_cli.students import Fusion


@dataclass(frozen=True, slots=True)
class Opinions:
    """Fused class and confidence as in `LandCover`; for several students also their distance and each one's class.

    Its class and field names are part of the key of a map (`repr`).
    """

    classes: int
    fusion: Fusion
    students: tuple[str, ...]
    """Names, in the order of the model."""

    @classmethod
    def of(cls, manifest: Manifest) -> Opinions:
        """The product for the students of a model."""
        return cls(len(manifest.classes), manifest.fusion, tuple(manifest.students))

    @property
    def depth(self) -> int:
        """Probabilities of the fused students; for several students also those of each student, and the distance."""
        return self.classes * (len(self.guess_planes) + 1) + bool(self.guess_planes)

    @property
    def guess_planes(self) -> dict[str, str]:
        """Student → name of the plane with that student's class; empty for a model with one student."""
        return {name: f"guess_{name}" for name in self.students} if len(self.students) > 1 else {}

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The map, its confidence and, for several students, their distance and the class of each."""
        disagreement = (Plane(DISAGREEMENT),) if self.guess_planes else ()
        guesses = (Plane(name, "class") for name in self.guess_planes.values())
        return (Plane(CLASS, "class"), Plane(CONFIDENCE), *disagreement, *guesses)

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Fused probabilities; for several students then those of each, and the distance: (B, depth, h, w)."""
        fused = fuse(members, self.fusion)
        if not self.guess_planes:
            return fused
        return torch.cat([fused, *(members[name] for name in self.guess_planes), distance(members)], dim=1)

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The planes of blended values (depth, h, w); where a student's values are NaN (overflow) it has no class."""
        disagreement = (DISAGREEMENT,) if self.guess_planes else ()
        fused = LandCover(self.classes, self.fusion, wanted=(CONFIDENCE, *disagreement))
        probabilities = blended[: self.classes]
        planes = fused.decide(torch.cat([probabilities, blended[-1:]]) if disagreement else probabilities)
        for position, name in enumerate(self.guess_planes.values(), start=1):
            student_probabilities = blended[position * self.classes : (position + 1) * self.classes]
            confidence, label = most_probable(student_probabilities)
            planes[name] = label.masked_fill_(confidence.isnan(), IGNORE)[None]
        return planes
