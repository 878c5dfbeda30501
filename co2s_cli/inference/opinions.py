"""The map, how sure it is, how far its students are apart, and what each of them would say alone."""

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
    """Class and confidence of the fused students as `predict` has them; of several also their distance and guesses."""

    classes: int
    fusion: Fusion
    students: tuple[str, ...]
    """Names, in the order of the model."""

    @classmethod
    def of(cls, manifest: Manifest) -> Opinions:
        """What the students of a model say."""
        return cls(len(manifest.classes), manifest.fusion, tuple(manifest.students))

    @property
    def depth(self) -> int:
        """The probabilities of the fused students; of several also those of each, and their distance."""
        return self.classes * (len(self.guesses) + 1) + bool(self.guesses)

    @property
    def guesses(self) -> dict[str, str]:
        """Name of the plane with each student's class, by student; empty where one student alone makes the map."""
        return {name: f"guess_{name}" for name in self.students} if len(self.students) > 1 else {}

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The map first, then its confidence, the distance of the students, and the class of each."""
        apart = (Plane(DISAGREEMENT),) if self.guesses else ()
        guesses = (Plane(name, "class") for name in self.guesses.values())
        return (Plane(CLASS, "class"), Plane(CONFIDENCE), *apart, *guesses)

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """What is blended, (B, depth, h, w)."""
        fused = fuse(members, self.fusion)
        if not self.guesses:
            return fused
        return torch.cat([fused, *(members[name] for name in self.guesses), distance(members)], dim=1)

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The planes of blended values (depth, h, w); a student that is NaN (overflow) has a class that is none."""
        apart = (DISAGREEMENT,) if self.guesses else ()
        fused = LandCover(self.classes, self.fusion, wanted=(CONFIDENCE, *apart))
        probabilities = blended[: self.classes]
        planes = fused.decide(torch.cat([probabilities, blended[-1:]]) if apart else probabilities)
        for position, name in enumerate(self.guesses.values(), start=1):
            one_student = blended[position * self.classes : (position + 1) * self.classes]
            confidence, label = most_probable(one_student)
            planes[name] = label.masked_fill_(confidence.isnan(), IGNORE)[None]
        return planes
