"""Distillation: FixMatch's step, and beside it what frozen teachers say in features (RS-MTDF) or in soft labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.training.losses import Likeness, Term, likeness, softly
from co2s_cli.training.methods.self_training import FixMatch, MethodRules
from co2s_cli.training.step import Views, Wants


class Foundation(Protocol):
    """A frozen foundation model. It is no part of what trains, and has size and statistics of its own."""

    @property
    def name(self) -> str:
        """What the student's translator of its tokens is called."""

    def tokens(self, images: Tensor) -> Tensor:
        """Tokens (B, L, width) of images (B, C, H, W) in [0, 1], without gradient."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the losses, before their sum is divided by `divisor`."""

    feature: float = 1.0
    """Of the mean over the foundation models."""
    soft: float = 1.0
    """Of what trained models say: half of it soft labels, half of it hard ones on the strong view."""
    divisor: float = 3.0
    temperature: float = 1.0
    """What soft labels are flattened by."""


class Distill(FixMatch):
    """L = (L_x + U + w · mean of L_dis over the foundation models) / divisor, as RS-MTDF with w = 1 and divisor 3.

    With trained models, who then are the guide: L = (L_x + s · (KL + U) / 2 + w · …) / divisor. KL is taken over the
    weak view and the labelled images.
    """

    def __init__(
        self, rules: MethodRules, weights: Weights, foundations: Sequence[Foundation] = (), *, soft: bool = False,
        kind: Likeness = "mse",
    ) -> None:  # fmt: skip
        super().__init__(rules)
        self._weights = weights
        self._foundations = tuple(foundations)
        self._kind: Likeness = kind
        self.labeled = 1 / weights.divisor
        self.strong = ((weights.soft / 2 if soft else 1.0) / weights.divisor,)
        tokens = bool(foundations) and weights.feature > 0
        self.wants = Wants(strong=1, weak=soft, labeled_guide=soft, tokens=tokens)

    def wants_at(self, step: int) -> Wants:
        """The same in every step: what teachers say counts from the first one."""
        del step
        return self.wants

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss; each foundation model has one of its own."""
        found = super().terms(view, batch, peers, step)
        if view.labeled_guide is not None:
            found |= self._soft(view, view.labeled_guide, batch)
        if view.shown is not None:
            weight = self._weights.feature / len(self._foundations) / self._weights.divisor
            for teacher in self._foundations:
                said = view.tokens[teacher.name]
                found[f"distill:{teacher.name}"] = likeness(said, teacher.tokens(view.shown), self._kind, weight=weight)
        return found

    def _soft(self, view: Views, taught: Tensor, batch: Batch) -> dict[str, Term]:
        """Soft labels of the weak view and of the labelled images, one mean over the pixels of both."""
        own = len(batch.images)
        term = softly(
            torch.cat([view.weak, view.labeled]),
            torch.cat([view.guide[:own], taught]),
            torch.cat([batch.valid[:own], batch.seen]),
            weight=self._weights.soft / 2 / self._weights.divisor,
            temperature=self._weights.temperature,
        )
        return {"soft": term}
