"""Products: which values of the students are blended, and which output planes are decided from the blended values."""

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
    """class: class ids; fraction: a value in [0, 1]; probabilities: such a value for each class."""
    dtype: Literal["uint8", "float32"] = "uint8"
    bands: int = 1

    @property
    def blank(self) -> float:
        """The value of pixels that are not valid."""
        return IGNORE if self.dtype == "uint8" else float("nan")

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel, all bands together."""
        return self.bands * (1 if self.dtype == "uint8" else 4)


class Product(Protocol):
    """Two pure functions: `values` makes the values to blend, `decide` makes planes of the blended values."""

    @property
    def depth(self) -> int:
        """Number of blended values per pixel."""

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes that `decide` returns."""

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Values (B, depth, h, w) in float32 from each student's probabilities (B, N, h, w)."""

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """Planes by name, each (bands, h, w) in its own type, from blended values (depth, h, w)."""


@dataclass(frozen=True, slots=True)
class LandCover:
    """A class for every pixel and, if wanted, its confidence, all probabilities and the students' disagreement.

    Its class and field names are part of the key of a map (`repr`): renaming one makes finished maps look changed.
    """

    classes: int
    fusion: Fusion
    min_confidence: float = 0.0
    """Pixels with less confidence get no class."""
    wanted: tuple[str, ...] = ()
    """Names of the further planes: confidence, probabilities, disagreement."""
    probabilities: Literal["uint8", "float32"] = "uint8"
    """Type in which probabilities are stored."""

    @property
    def depth(self) -> int:
        """One probability per class, and one value for the disagreement if wanted."""
        return self.classes + (DISAGREEMENT in self.wanted)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The class plane, then the wanted planes."""
        probabilities = Plane(PROBABILITIES, "probabilities", self.probabilities, self.classes)
        optional = (Plane(CONFIDENCE), probabilities, Plane(DISAGREEMENT))
        return (Plane(CLASS, "class"), *(plane for plane in optional if plane.name in self.wanted))

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Fused probabilities (B, classes, h, w); with disagreement, the students' distance as one more layer."""
        fused = fuse(members, self.fusion)
        return torch.cat([fused, distance(members)], dim=1) if DISAGREEMENT in self.wanted else fused

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The most probable class, of equally probable ones the lowest id, and the wanted planes."""
        probabilities = blended[: self.classes]
        confidence, label = most_probable(probabilities)
        label.masked_fill_(~(confidence >= self.min_confidence), IGNORE)  # NaN (overflow) is no class either
        planes = {CLASS: label[None]}
        if CONFIDENCE in self.wanted:
            planes[CONFIDENCE] = quantised(confidence)[None]
        if PROBABILITIES in self.wanted:
            as_uint8 = self.probabilities == "uint8"
            planes[PROBABILITIES] = quantised(probabilities) if as_uint8 else probabilities.clamp(0, 1)
        if DISAGREEMENT in self.wanted:
            planes[DISAGREEMENT] = quantised(blended[self.classes])[None]
        return planes


def most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Largest of the probabilities (classes, h, w) and its class id in uint8, each (h, w).

    Of equally probable classes the lowest id wins. Where a probability is NaN, the largest is NaN and the class id is
    the number of classes. On a CPU this takes a third of the time of `max` with a dimension, which is not vectorised.
    """
    confidence = probabilities.amax(dim=0)
    lower = probabilities[0] != confidence  # True while all classes so far are below the largest
    label = lower.to(torch.uint8)
    for probability in probabilities[1:]:
        lower &= probability != confidence
        label += lower
    return confidence, label


def distance(members: Mapping[str, Tensor]) -> Tensor:
    """Total variation distance of two students' probabilities, (B, 1, h, w): sum over classes of |p - q| / 2.

    0 = equal, 1 = disjoint. Of three students it is the mean over their pairs.
    """
    pairs = list(combinations(members.values(), 2))
    if not pairs:
        raise ValueError(f"need two students to disagree, got {', '.join(members)}")
    total = torch.stack([(first - second).abs_().sum(dim=1, keepdim=True) for first, second in pairs]).sum(dim=0)
    return total.mul_(0.5 / len(pairs))


def quantised(fractions: Tensor) -> Tensor:
    """Fractions in [0, 1] rounded to multiples of 1 / `STEPS`, stored as that multiple in uint8."""
    return (fractions * STEPS).round_().clamp_(0, STEPS).to(torch.uint8)


def product_of(settings: PredictConfig, manifest: Manifest) -> LandCover:
    """The product that the settings ask for.

    Raises:
        ModelError: the model lacks a student that the settings need.
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
