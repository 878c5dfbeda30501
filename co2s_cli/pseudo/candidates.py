"""Candidates for pseudo-labels: a class and a confidence for each pixel, by a rule, before any threshold."""

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
"""Confidences are rounded to multiples of 1/GRID, fine enough for any threshold, so that they can be counted by value
and compress well."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The product of candidates: for each pixel a class, its confidence, and the distance of the students.

    The rule decides:

    - `any`: class and confidence of the fused map, as in `predict`.
    - `both`: the class that both students predict, with the lower of their confidences; no class where they differ.
    - `surer`: class and confidence of the more confident student, of two equally confident ones the first. In training
      a student likewise learns from a more confident peer.

    The `repr` is stored in the journal of a map, so that names here must not change.
    """

    classes: int
    """Number of classes."""
    rule: AgreeRule
    fusion: Fusion
    """How the probabilities of the students are fused if the rule is `any`."""
    students: int = 2
    """Number of students."""

    @property
    def depth(self) -> int:
        """Number of blended maps: class probabilities (fused, or of each student), and the distance of two students."""
        maps = 1 if self.rule == "any" else 2
        return maps * self.classes + (self.students == 2)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The rasters that are written: candidate, confidence and, for two students, their distance."""
        disagreement = (Plane(DISAGREEMENT),) if self.students == 2 else ()
        return (Plane(CLASS, "class"), Plane(CONFIDENCE, dtype="float32"), *disagreement)

    def values(self, members: Mapping[str, Tensor]) -> Tensor:
        """(B, depth, h, w) maps to blend, from the probabilities (B, classes, h, w) of each student."""
        maps = [fuse(members, self.fusion)] if self.rule == "any" else list(members.values())
        return torch.cat([*maps, *([distance(members)] if self.students == 2 else [])], dim=1)

    def decide(self, blended: Tensor) -> dict[str, Tensor]:
        """The rasters (1, h, w) of candidate, confidence and disagreement from `blended` (depth, h, w)."""
        maps = blended[: self.depth - (self.students == 2)].reshape(-1, self.classes, *blended.shape[1:])
        confidence, label = _RULES[self.rule](*maps.max(dim=1))
        is_number = ~confidence.isnan()  # NaN comes from an overflow and is no class
        planes = {
            CLASS: label.to(torch.uint8).masked_fill_(~is_number, IGNORE)[None],
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
"""Rule → function from the confidences and classes (maps, h, w) of one or two maps to one of each (h, w)."""


def candidates_of(manifest: Manifest, rule: AgreeRule | None) -> Candidates:
    """The candidates of a model by `rule`; the default is `surer` for a model of two students, else `any`.

    Raises:
        ConfigError: the rule compares two students and the model does not have two.
    """
    rule = rule or ("surer" if len(manifest.students) == 2 else "any")
    if rule != "any" and len(manifest.students) != 2:
        names = ", ".join(manifest.students)
        raise ConfigError(
            f"--agree {rule} needs a model of two students, this one has {names}", hint="use --agree any with it"
        )
    return Candidates(len(manifest.classes), rule, manifest.fusion, len(manifest.students))
