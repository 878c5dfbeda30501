"""Losses as pure functions of tensors. Each is a sum and a count, divided only when all ranks have told theirs.

Shapes: logits (B, N, H, W); labels, confidences and masks (B, H, W). Masks: True = counts. Sources: "spec §n" is the
published training step (the supervised, consistency and stability terms; UniMatch and FixMatch share the first two),
"mtdf §n" is that of RS-MTDF.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.classes import IGNORE


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the loss, `weight · total / count`, of two scalars; 0, still differentiable, where the count is 0."""

    total: Tensor
    count: Tensor
    weight: float = 1.0

    @property
    def value(self) -> Tensor:
        """The quotient without the weight."""
        return self.total / self.count.clamp_min(1e-12)


class Pseudo(NamedTuple):
    """Hard pseudo-labels of a view."""

    confidence: Tensor
    labels: Tensor
    valid: Tensor
    """False in padding and nodata."""

    def mixed(self, box: Tensor, other: Pseudo) -> Pseudo:
        """These labels with those of `other` in `box` (B, H, W)."""
        return Pseudo(*(torch.where(box, there, here) for here, there in zip(self, other, strict=True)))

    def picked(self, index: Tensor) -> Pseudo:
        """The images `index` of the batch, in that order."""
        return Pseudo(*(part[index] for part in self))


def pseudo_labels(chances: Tensor, valid: Tensor) -> Pseudo:
    """The most likely class of each pixel and its probability; no gradient flows through them."""
    confidence, labels = chances.detach().max(dim=1)
    return Pseudo(confidence, labels, valid)


def supervised(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Term:
    """Cross-entropy over the labelled pixels (spec §3, L_x); pixels with weights (B, H, W) count by their weight."""
    loss = F.cross_entropy(logits.float(), labels, weight=class_weights, ignore_index=IGNORE, reduction="none")
    labelled = labels != IGNORE
    if class_weights is None:
        count = labelled.float()
    else:
        count = class_weights[labels.clamp_max(len(class_weights) - 1)] * labelled
    if pixel_weights is not None:
        loss, count = loss * pixel_weights, count * pixel_weights
    return Term(loss.sum(), count.sum())


def consistency(
    logits: Tensor, pseudo: Pseudo, threshold: Tensor, *, weight: float, class_weights: Tensor | None = None
) -> Term:
    """Cross-entropy to confident pseudo-labels, divided by all valid pixels, not by the confident ones (spec §3, U).

    `threshold` (N,) by pseudo-class; a confidence that equals it counts. `class_weights` (N,) by pseudo-class.
    """
    keep = pseudo.valid & (pseudo.confidence >= threshold[pseudo.labels])
    loss = F.cross_entropy(logits.float(), pseudo.labels, reduction="none") * keep
    if class_weights is not None:
        loss = loss * class_weights[pseudo.labels]
    return Term(loss.sum(), pseudo.valid.float().sum(), weight)


CONFIDENCE_BINS = 128
"""Bins of the histogram of confidences in [0, 1]."""


def confidence_histogram(pseudo: Pseudo, classes: int) -> Tensor:
    """Valid pixels (N, `CONFIDENCE_BINS`) by pseudo-class and confidence; sums over ranks and batches."""
    bins = (pseudo.confidence * CONFIDENCE_BINS).long().clamp_(0, CONFIDENCE_BINS - 1)
    places = (pseudo.labels * CONFIDENCE_BINS + bins).flatten()
    # neither a selection nor bincount: the device would be waited for, whose sizes they depend on
    counts = torch.zeros(classes * CONFIDENCE_BINS, dtype=torch.long, device=places.device)
    counts.scatter_add_(0, places, pseudo.valid.flatten().long())
    return counts.view(classes, CONFIDENCE_BINS).float()


def share_thresholds(histogram: Tensor, threshold: Tensor, share: float, *, least: float = 0.5) -> Tensor:
    """For each class (N,) the confidence that `share` of its pixels reach, from `least` up to its `threshold`.

    As FlexMatch and FreeMatch, a class that the student is less sure of is asked for less; here by a share, as in
    class-balanced self-training. A class without pixels keeps its threshold.
    """
    reached = histogram.flip(1).cumsum(1).flip(1)  # pixels of at least each bin's lower edge
    enough = reached >= share * reached[:, :1]
    lowest = enough.sum(dim=1) - 1  # the highest bin that enough pixels reach
    cuts = (lowest / CONFIDENCE_BINS).clamp_min(least)
    return torch.where(reached[:, 0] > 0, torch.minimum(cuts, threshold), threshold)


def balanced_weights(histogram: Tensor, threshold: Tensor, power: float) -> Tensor:
    """Weights (N,) of pseudo-labels by class: their share among those that count to the power `-power`, mean 1."""
    edges = torch.arange(CONFIDENCE_BINS, device=histogram.device) / CONFIDENCE_BINS
    kept = (histogram * (edges >= threshold[:, None] - 1 / CONFIDENCE_BINS)).sum(dim=1)
    share = (kept / kept.sum().clamp_min(1)).clamp_min(0.01)
    weights = share**-power
    return weights / (weights * share).sum()


def stability(logits: Tensor, other: Tensor, mask: Tensor, *, weight: float) -> Term:
    """Squared distance of a student's probabilities from the `other` student's, over masked pixels and all classes.

    The other side is a fixed target; in [0, 2/N] (spec §4, L_sta). No gradient reaches `logits` if they are detached.
    """
    distance = (logits.float().softmax(dim=1) - other.detach()).square().sum(dim=1) * mask
    return Term(distance.sum(), mask.float().sum() * logits.shape[1], weight)


Likeness = Literal["mse", "cosine", "ln_mse"]


def likeness(translated: Tensor, tokens: Tensor, kind: Likeness, *, weight: float) -> Term:
    """Distance of translated tokens (B, L, width) from a teacher's (mtdf §2.3), a plain mean without any mask.

    mse: over tokens and channels; ln_mse: to the teacher's tokens brought to mean 0 and variance 1 each, so that
    teachers of any scale weigh the same; cosine: 1 - cosine, over tokens.
    """
    said, told = translated.float(), tokens.detach().float()
    if kind == "cosine":
        distance = 1 - F.cosine_similarity(said, told, dim=-1)
    else:
        distance = (said - (F.layer_norm(told, told.shape[-1:]) if kind == "ln_mse" else told)).square()
    total = distance.sum()
    return Term(total, torch.full_like(total, distance.numel()).detach(), weight)


def softly(logits: Tensor, chances: Tensor, valid: Tensor, *, weight: float, temperature: float = 1.0) -> Term:
    """Kullback-Leibler divergence from soft labels `chances` (B, N, H, W), over valid pixels.

    A pixel weighs as much as its labels are sure; T² keeps the gradient's size at any temperature T.
    """
    told = chances.detach().float()
    sure = told.amax(dim=1)
    if temperature != 1:
        told = (told.clamp_min(1e-12).log() / temperature).softmax(dim=1)
    said = (logits.float() / temperature).log_softmax(dim=1)
    divergence = (torch.xlogy(told, told) - told * said).sum(dim=1)
    loss = temperature**2 * sure * divergence * valid
    return Term(loss.sum(), valid.float().sum(), weight)
