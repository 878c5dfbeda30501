"""Candidates for pseudo-labels: what a rule makes of two students, before any threshold cuts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.errors import ConfigError
from co2s_cli.inference.products import CLASS, CONFIDENCE, DISAGREEMENT, Plane, distance, steps
from co2s_cli.models.ensemble import fuse
from co2s_cli.models.manifest import Manifest
from co2s_cli.students import Fusion

AgreeRule = Literal["any", "both", "surer"]

GRID = 65536
"""Confidences are kept in steps of 1/GRID: fine enough for any threshold, coarse enough to be counted and packed."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """For every pixel the class that a pseudo-label would have, how sure that is, how far the students are apart.

    `any`: the fused students, as `predict` has them. `both`: the class that both students name, as sure as the less
    sure one; no class where they differ. `surer`: the class of the surer student (of equally sure ones the first),
    which is what a student learns from the other one in training wherever that is surer and sure enough.
    """

    classes: int
    rule: AgreeRule
    fusion: Fusion
    students: int = 2

    @property
    def depth(self) -> int:
        """Probabilities of the fused or of each student, and with two of them their distance."""
        maps = 1 if self.rule == "any" else 2
        return maps * self.classes + (self.students == 2)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The candidate, how sure it is, and how far the students are apart where there are two."""
        apart = (Plane(DISAGREEMENT),) if self.students == 2 else ()
        return (Plane(CLASS, "class"), Plane(CONFIDENCE, dtype="float32"), *apart)

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """What is blended: each student by itself, unless the rule asks only for both together."""
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
            planes[DISAGREEMENT] = steps(blended[-1])[None]
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
    """The product of a rule for a model; without a rule, of the one that makes the most of its students.

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
