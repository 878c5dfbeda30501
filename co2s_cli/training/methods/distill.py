"""Distillation: FixMatch's losses, plus token distances to frozen foundation models (RS-MTDF) or soft-label losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.training.losses import DistanceKind, Term, soft_label_loss, token_distance
from co2s_cli.training.methods.self_training import FixMatch, MethodRules
from co2s_cli.training.views import RequiredViews, StudentOutputs


class Foundation(Protocol):
    """A frozen foundation model as teacher. It does not train, and resizes and standardises its input by itself."""

    @property
    def name(self) -> str:
        """Its name, which is also that of the student's translator for its tokens."""

    def tokens(self, images: Tensor) -> Tensor:
        """Tokens (B, L, width) of images (B, C, H, W) in [0, 1], without gradient."""


@dataclass(frozen=True, slots=True)
class DistillWeights:
    """Weights of the loss terms of distillation."""

    feature: float = 1.0
    """w: of L_dis, the mean token distance over the foundation models."""
    soft: float = 1.0
    """s: of the losses to trained teacher models, half of it for soft labels (KL), half for hard pseudo-labels (U)."""
    divisor: float = 3.0
    """The weighted sum of all terms is divided by this."""
    temperature: float = 1.0
    """Temperature that flattens the soft labels."""


class Distill(FixMatch):
    """L = (L_x + U + w · mean of L_dis over the foundation models) / divisor; RS-MTDF has w = 1 and divisor 3.

    Where trained models teach, they are the guide, and L = (L_x + s · (KL + U) / 2 + w · mean of L_dis) / divisor. KL
    is the soft-label loss over the weak view and the labelled images.
    """

    def __init__(
        self, rules: MethodRules, weights: DistillWeights, foundations: Sequence[Foundation] = (), *, soft: bool =
        False, kind: DistanceKind = "mse",
    ) -> None:  # fmt: skip
        """`soft`: trained models teach by soft labels; `kind`: the distance of L_dis."""
        super().__init__(rules)
        self._weights = weights
        self._foundations = tuple(foundations)
        self._kind: DistanceKind = kind
        self.labeled = 1 / weights.divisor
        self.strong = ((weights.soft / 2 if soft else 1.0) / weights.divisor,)
        tokens = bool(foundations) and weights.feature > 0
        self.required = RequiredViews(strong=1, weak=soft, labeled_guide=soft, tokens=tokens)

    def required_at(self, step: int) -> RequiredViews:
        """The same views in every step: teachers' targets count from the first step on."""
        del step
        return self.required

    def terms(self, outputs: StudentOutputs, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Terms of a student's loss, by name; one for each foundation model."""
        terms = super().terms(outputs, batch, peers, step)
        if outputs.labeled_guide is not None:
            terms |= self._soft(outputs, outputs.labeled_guide, batch)
        if outputs.teacher_images is not None:
            weight = self._weights.feature / len(self._foundations) / self._weights.divisor
            for teacher in self._foundations:
                translated, tokens = outputs.tokens[teacher.name], teacher.tokens(outputs.teacher_images)
                terms[f"distill:{teacher.name}"] = token_distance(translated, tokens, self._kind, weight=weight)
        return terms

    def _soft(self, outputs: StudentOutputs, labeled_guide: Tensor, batch: Batch) -> dict[str, Term]:
        """The soft-label loss: one mean over the pixels of the weak view and of the labelled images."""
        batch_size = len(batch.images)
        term = soft_label_loss(
            torch.cat([outputs.weak, outputs.labeled]),
            torch.cat([outputs.guide[:batch_size], labeled_guide]),
            torch.cat([batch.valid[:batch_size], batch.seen]),
            weight=self._weights.soft / 2 / self._weights.divisor,
            temperature=self._weights.temperature,
        )
        return {"soft": term}
