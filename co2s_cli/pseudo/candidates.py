"""Candidates for pseudo-labels: class and confidence of each pixel by a rule, before any threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.errors import ConfigError
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.inference.products import Plane, distance, quantised
from co2s_cli.models.ensemble import fuse
from co2s_cli.models.manifest import Manifest
from co2s_cli.students import Fusion

AgreeRule = Literal["any", "both", "surer"]

GRID = 65536
"""Confidences are kept in steps of 1/GRID: fine enough for any threshold, coarse enough to be counted and packed."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """For each pixel the class that a pseudo-label would have, its confidence, and the distance of the students.

    `any`: class and confidence of the fused map, as `predict` has them. `both`: the class that both students name, with
    the lower confidence of the two; no class where they differ. `surer`: class and confidence of the more confident
    student (of two equal ones the first), as in training a student learns from a peer that is more confident.
    """

    classes: int
    rule: AgreeRule
    fusion: Fusion
    students: int = 2

    @property
    def depth(self) -> int:
        """Number of blended maps: class probabilities, fused or of each student, and the distance of two students."""
        maps = 1 if self.rule == "any" else 2
        return maps * self.classes + (self.students == 2)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Candidate, confidence and, of two students, their distance."""
        disagreement = (Plane(DISAGREEMENT),) if self.students == 2 else ()
        return (Plane(CLASS, "class"), Plane(CONFIDENCE, dtype="float32"), *disagreement)

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """(B, depth, h, w) the maps to blend: each student's, or the fused one where the rule is `any`."""
        maps = [fuse(members, self.fusion)] if self.rule == "any" else list(members.values())
        return torch.cat([*maps, *([distance(members)] if self.students == 2 else [])], dim=1)

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """Candidate, confidence and disagreement."""
        maps = blended[: self.depth - (self.students == 2)].reshape(-1, self.classes, *blended.shape[1:])
        confidence, label = _RULES[self.rule](*maps.max(dim=1))
        known = ~confidence.isnan()  # NaN, of an overflow, is no class
        planes = {
            CLASS: label.to(torch.uint8).masked_fill_(~known, IGNORE)[None],
            CONFIDENCE: (confidence.nan_to_num(0) * GRID).round_().clamp_(0, GRID).div_(GRID)[None],
        }
        if self.students == 2:
            planes[DISAGREEMENT] = quantised(blended[-1])[None]
        return planes


def _fused(confidence: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    return confidence[0], label[0]


def _both(confidence: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    return confidence.amin(dim=0), label[0].where(label[0] == label[1], IGNORE)


def _surer(confidence: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    second = confidence[1] > confidence[0]
    return confidence.amax(dim=0), label[1].where(second, label[0])


_RULES: dict[AgreeRule, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "any": _fused,
    "both": _both,
    "surer": _surer,
}
"""From confidences and labels (maps, h, w) to one of each."""


def candidates_of(manifest: Manifest, rule: AgreeRule | None) -> Candidates:
    """The product of a rule for a model; without a rule `any` for one student, else `surer`.

    Raises:
        ConfigError: the rule wants two students and the model has one.
    """
    rule = rule or ("any" if len(manifest.students) == 1 else "surer")
    if rule != "any" and len(manifest.students) != 2:
        held = ", ".join(manifest.students)
        raise ConfigError(
            f"--agree {rule} asks two students, this model holds only {held}", hint="use --agree any with it"
        )
    return Candidates(len(manifest.classes), rule, manifest.fusion, len(manifest.students))
