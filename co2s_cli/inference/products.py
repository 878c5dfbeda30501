"""Products of the students' probabilities: the values that are blended, and the planes decided from the blend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.config.predict import PredictConfig
from co2s_cli.errors import ModelError
from co2s_cli.geo.legend import STEPS
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT, PROBABILITIES
from co2s_cli.models.ensemble import fuse
from co2s_cli.models.manifest import Manifest
from co2s_cli.students import STUDENT_NAMES, Fusion


@dataclass(frozen=True, slots=True)
class Plane:
    """Name and type of one output raster."""

    name: str
    kind: Literal["class", "fraction", "probabilities"] = "fraction"
    """Class ids, one fraction in [0, 1], or one such fraction for each class."""
    dtype: Literal["uint8", "float32"] = "uint8"
    bands: int = 1

    @property
    def blank(self) -> float:
        """The value of a pixel that is not valid."""
        return IGNORE if self.dtype == "uint8" else float("nan")

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel, all bands together."""
        return self.bands * (1 if self.dtype == "uint8" else 4)


class Product(Protocol):
    """Two pure functions: the values to blend from probabilities, and planes from blended values."""

    @property
    def depth(self) -> int:
        """Values per pixel that are blended."""

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes that `decide` returns."""

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Values (B, depth, h, w) in float32 from each student's probabilities (B, N, h, w)."""

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """Planes by name, each (bands, h, w) in its own type, from blended values (depth, h, w)."""


@dataclass(frozen=True, slots=True)
class LandCover:
    """A class for every pixel and, if wanted, its confidence, all probabilities, the disagreement of the students."""

    classes: int
    fusion: Fusion
    min_confidence: float = 0.0
    """A pixel of less confidence gets no class."""
    wanted: tuple[str, ...] = ()
    """Names of the planes beside the class: confidence, probabilities, disagreement."""
    probabilities: Literal["uint8", "float32"] = "uint8"
    """How probabilities are stored."""

    @property
    def depth(self) -> int:
        """One probability a class, and the disagreement."""
        return self.classes + (DISAGREEMENT in self.wanted)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The class first, then what is wanted beside it."""
        probabilities = Plane(PROBABILITIES, "probabilities", self.probabilities, self.classes)
        optional = (Plane(CONFIDENCE), probabilities, Plane(DISAGREEMENT))
        return (Plane(CLASS, "class"), *(plane for plane in optional if plane.name in self.wanted))

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Fused probabilities; with disagreement, the students' distance as the last layer."""
        fused = fuse(members, self.fusion)
        return torch.cat([fused, distance(members)], dim=1) if DISAGREEMENT in self.wanted else fused

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The most probable class; of equal ones the lower id."""
        probabilities = blended[: self.classes]
        confidence, label = most_probable(probabilities)
        label.masked_fill_(~(confidence >= self.min_confidence), IGNORE)  # NaN (overflow) is no class either
        planes = {CLASS: label[None]}
        if CONFIDENCE in self.wanted:
            planes[CONFIDENCE] = steps(confidence)[None]
        if PROBABILITIES in self.wanted:
            planes[PROBABILITIES] = steps(probabilities) if self.probabilities == "uint8" else probabilities.clamp(0, 1)
        if DISAGREEMENT in self.wanted:
            planes[DISAGREEMENT] = steps(blended[self.classes])[None]
        return planes


def most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of probabilities (classes, h, w), and its class in uint8, each (h, w).

    Of equal classes the lowest id. Where a probability is NaN, so is the largest, and the class is one that does not
    exist. On a CPU this takes a third of the time of `max` with a dimension, which is not vectorised.
    """
    confidence = probabilities.amax(dim=0)
    lower = probabilities[0] != confidence  # whether all classes so far are below the largest
    label = lower.to(torch.uint8)
    for probability in probabilities[1:]:
        lower &= probability != confidence
        label += lower
    return confidence, label


def distance(members: Mapping[str, Tensor]) -> Tensor:
    """Total variation distance of two students, (B, 1, h, w): sum of |p - q| / 2; 0 = equal, 1 = disjoint.

    Of three students it is the mean over their pairs.
    """
    pairs = list(combinations(members.values(), 2))
    if not pairs:
        raise ValueError(f"need two students to disagree, got {', '.join(members)}")
    total = torch.stack([(first - second).abs_().sum(dim=1, keepdim=True) for first, second in pairs]).sum(dim=0)
    return total.mul_(0.5 / len(pairs))


def steps(fractions: Tensor) -> Tensor:
    """Fractions in [0, 1] as uint8, in steps of 1 / `STEPS`."""
    return (fractions * STEPS).round_().clamp_(0, STEPS).to(torch.uint8)


def product_of(settings: PredictConfig, manifest: Manifest) -> LandCover:
    """The planes that the settings ask for.

    Raises:
        ModelError: the model lacks a student that they need.
    """
    fusion = settings.fusion or manifest.fusion
    students = ", ".join(manifest.students)
    if fusion in STUDENT_NAMES and fusion not in manifest.students:
        raise ModelError(f"--fusion {fusion}: this model holds only {students}", hint="leave --fusion out")
    if settings.disagreement and len(manifest.students) < 2:
        raise ModelError(f"--disagreement wants two students, this model holds only {students}")
    wanted = tuple(name for name in (CONFIDENCE, PROBABILITIES, DISAGREEMENT) if getattr(settings, name))
    return LandCover(
        classes=len(manifest.classes),
        fusion=fusion,
        min_confidence=settings.min_confidence,
        wanted=wanted,
        probabilities=settings.probability_type,
    )
