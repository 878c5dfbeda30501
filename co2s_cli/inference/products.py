"""What is made of the students' probabilities: the values that are blended, and the planes decided from the blend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.geo.write.raster import STEPS
from co2s_cli.models.manifest import Fusion
from co2s_cli.models.pair import fuse

CLASS, CONFIDENCE, PROBABILITIES, DISAGREEMENT = "class", "confidence", "probabilities", "disagreement"


@dataclass(frozen=True, slots=True)
class Plane:
    """One of the rasters that leave the device."""

    name: str
    kind: Literal["class", "fraction", "probabilities"] = "fraction"
    """Ids of classes, one amount between 0 and 1, or one such amount for each class."""
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
    """Two pure functions around the blend: what is blended, and what is decided from it."""

    @property
    def depth(self) -> int:
        """Values per pixel that are blended."""

    @property
    def planes(self) -> tuple[Plane, ...]:
        """What `decide` gives."""

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Values (B, depth, h, w) in float32 from each student's probabilities (B, N, h, w)."""

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """Planes by name, each (bands, h, w) in its own type, from blended values (depth, h, w)."""


@dataclass(frozen=True, slots=True)
class LandCover:
    """A class for every pixel and, if wanted, how sure it is, all probabilities, how much the students disagree."""

    classes: int
    fusion: Fusion
    min_confidence: float = 0.0
    """Below it a pixel gets no class."""
    wanted: tuple[str, ...] = ()
    """Planes beside the class: confidence, probabilities, disagreement."""
    probabilities: Literal["uint8", "float32"] = "uint8"
    """How probabilities are stored."""

    @property
    def depth(self) -> int:
        """One probability a class, and the disagreement."""
        return self.classes + (DISAGREEMENT in self.wanted)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The class first, then what is wanted beside it."""
        chances = Plane(PROBABILITIES, "probabilities", self.probabilities, self.classes)
        beside = (Plane(CONFIDENCE), chances, Plane(DISAGREEMENT))
        return (Plane(CLASS, "class"), *(plane for plane in beside if plane.name in self.wanted))

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """Fused probabilities, and as a last layer the students' distance."""
        fused = fuse(members, self.fusion)
        return torch.cat([fused, distance(members)], dim=1) if DISAGREEMENT in self.wanted else fused

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The most probable class; of equal ones the lower id."""
        chances = blended[: self.classes]
        surest, winner = chances.max(dim=0)  # of equal values `max` along a dimension gives the first
        label = winner.to(torch.uint8)
        label.masked_fill_(~(surest >= self.min_confidence), IGNORE)  # so that NaN, of an overflow, is no class either
        planes = {CLASS: label[None]}
        if CONFIDENCE in self.wanted:
            planes[CONFIDENCE] = steps(surest)[None]
        if PROBABILITIES in self.wanted:
            planes[PROBABILITIES] = steps(chances) if self.probabilities == "uint8" else chances.clamp(0, 1)
        if DISAGREEMENT in self.wanted:
            planes[DISAGREEMENT] = steps(blended[self.classes])[None]
        return planes


def distance(members: Mapping[str, Tensor]) -> Tensor:
    """How far two students are apart, (B, 1, h, w): half the sum of |p - q|, 0 = the same, 1 = nothing in common."""
    if len(members) != 2:
        raise ValueError(f"need two students to disagree, got {', '.join(members)}")
    first, second = members.values()
    return (first - second).abs_().sum(dim=1, keepdim=True).mul_(0.5)


def steps(fractions: Tensor) -> Tensor:
    """Fractions in [0, 1] as uint8."""
    return (fractions * STEPS).round_().clamp_(0, STEPS).to(torch.uint8)
