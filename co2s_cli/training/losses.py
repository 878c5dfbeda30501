"""Losses as pure functions of tensors. Each returns a sum and a count, so that both can be summed over ranks first.

Shapes: logits (B, N, H, W) for N classes; labels, confidences and masks (B, H, W). Masks: True = counts. The symbols
L_x, U, L_sta (Co2S; FixMatch and UniMatch share the first two) and L_dis (RS-MTDF) are those of docs/method.md.
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
    """One summand of a loss: `weight · total / count`. It is 0, and still differentiable, where the count is 0."""

    total: Tensor
    """Scalar: sum of the loss over pixels, differentiable."""
    count: Tensor
    """Scalar without gradient: the number, or the sum of weights, that `total` is divided by."""
    weight: float = 1.0

    @property
    def value(self) -> Tensor:
        """`total / count`, without the weight."""
        return self.total / self.count.clamp_min(1e-12)


class PseudoLabels(NamedTuple):
    """Hard pseudo-labels of B images, each tensor (B, H, W)."""

    confidence: Tensor
    """Probability of the pseudo-class."""
    labels: Tensor
    """int64 class ids."""
    valid: Tensor
    """False in padding and nodata."""

    def mixed(self, box: Tensor, partner: PseudoLabels) -> PseudoLabels:
        """CutMix: these pseudo-labels, with those of `partner` where `box` (B, H, W) is True."""
        return PseudoLabels(*(torch.where(box, inside, outside) for outside, inside in zip(self, partner, strict=True)))

    def picked(self, index: Tensor) -> PseudoLabels:
        """The pseudo-labels of the images `index` (n,), in that order."""
        return PseudoLabels(*(part[index] for part in self))


def pseudo_labels(probabilities: Tensor, valid: Tensor) -> PseudoLabels:
    """The most likely class of each pixel and its probability, without gradient; `probabilities` (B, N, H, W)."""
    confidence, labels = probabilities.detach().max(dim=1)
    return PseudoLabels(confidence, labels, valid)


def supervised(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    balance: float = 0.0,
) -> Term:
    """L_x: mean cross-entropy over the labelled pixels.

    With `class_weights` (N,) or `pixel_weights` (B, H, W) it is the weighted mean. With `balance` p a pixel of an image
    with n labelled ones weighs n^-p: 0 counts all pixels alike, 1 all images that have labels.
    """
    loss = F.cross_entropy(logits.float(), labels, weight=class_weights, ignore_index=IGNORE, reduction="none")
    labelled = labels != IGNORE
    if class_weights is None:
        count = labelled.float()
    else:
        count = class_weights[labels.clamp_max(len(class_weights) - 1)] * labelled
    if pixel_weights is not None:
        loss, count = loss * pixel_weights, count * pixel_weights
    if balance:
        of_image = labelled.sum(dim=(1, 2), keepdim=True).clamp_min(1).float() ** -balance
        loss, count = loss * of_image, count * of_image
    return Term(loss.sum(), count.sum())


def consistency(
    logits: Tensor, pseudo: PseudoLabels, threshold: Tensor, *, weight: float, class_weights: Tensor | None = None
) -> Term:
    """U: cross-entropy to the confident pseudo-labels, divided by all valid pixels, not by the confident ones.

    `threshold` (N,): smallest confidence that counts, by pseudo-class. `class_weights` (N,): factor of the loss, by
    pseudo-class.
    """
    confident = pseudo.valid & (pseudo.confidence >= threshold[pseudo.labels])
    loss = F.cross_entropy(logits.float(), pseudo.labels, reduction="none") * confident
    if class_weights is not None:
        loss = loss * class_weights[pseudo.labels]
    return Term(loss.sum(), pseudo.valid.float().sum(), weight)


CONFIDENCE_BINS = 128
"""Bins of equal width of a histogram of confidences in [0, 1]."""


def confidence_histogram(pseudo: PseudoLabels, classes: int) -> Tensor:
    """Number of valid pixels by pseudo-class and confidence, float32 (N, `CONFIDENCE_BINS`); ranks' counts add up."""
    bins = (pseudo.confidence * CONFIDENCE_BINS).long().clamp_(0, CONFIDENCE_BINS - 1)
    flat_bins = (pseudo.labels * CONFIDENCE_BINS + bins).flatten()
    # a boolean selection or bincount would make the CPU wait for the GPU: the size of their result depends on the data
    counts = torch.zeros(classes * CONFIDENCE_BINS, dtype=torch.long, device=flat_bins.device)
    counts.scatter_add_(0, flat_bins, pseudo.valid.flatten().long())
    return counts.view(classes, CONFIDENCE_BINS).float()


def share_thresholds(histogram: Tensor, threshold: Tensor, share: float, *, lowest: float = 0.5) -> Tensor:
    """Thresholds (N,): for each class the confidence that `share` of its pixels reach, in [`lowest`, its `threshold`].

    As in FlexMatch and FreeMatch, a class that the student is less sure of gets a lower threshold; here by a share of
    its pixels, as in class-balanced self-training. A class without pixels keeps its `threshold`.
    """
    reaching = histogram.flip(1).cumsum(1).flip(1)  # pixels with at least the confidence of each bin's lower edge
    enough = reaching >= share * reaching[:, :1]
    highest_bin = enough.sum(dim=1) - 1  # the highest bin that enough pixels reach
    edges = (highest_bin / CONFIDENCE_BINS).clamp_min(lowest)
    return torch.where(reaching[:, 0] > 0, torch.minimum(edges, threshold), threshold)


def balanced_weights(histogram: Tensor, threshold: Tensor, power: float) -> Tensor:
    """Weights (N,) of pseudo-labels by class, of mean 1 over the pixels that reach `threshold`.

    A class weighs as its share of those pixels, at least 0.01, to the power `-power`.
    """
    edges = torch.arange(CONFIDENCE_BINS, device=histogram.device) / CONFIDENCE_BINS
    confident = (histogram * (edges >= threshold[:, None] - 1 / CONFIDENCE_BINS)).sum(dim=1)
    share = (confident / confident.sum().clamp_min(1)).clamp_min(0.01)
    weights = share**-power
    return weights / (weights * share).sum()


def stability(logits: Tensor, peer: Tensor, mask: Tensor, *, weight: float) -> Term:
    """L_sta: mean squared distance of a student's probabilities from its peer's, over masked pixels and all classes.

    `peer` (B, N, H, W): the peer's probabilities, a fixed target. The value lies in [0, 2/N].
    """
    distance = (logits.float().softmax(dim=1) - peer.detach()).square().sum(dim=1) * mask
    return Term(distance.sum(), mask.float().sum() * logits.shape[1], weight)


DistanceKind = Literal["mse", "cosine", "ln_mse"]


def token_distance(translated: Tensor, tokens: Tensor, kind: DistanceKind, *, weight: float) -> Term:
    """L_dis: mean distance of the student's translated tokens from a teacher's, both (B, L, width); nothing is masked.

    mse: squared difference, over tokens and channels. ln_mse: the same after each of the teacher's tokens is normalised
    to mean 0 and variance 1, so that teachers of any scale weigh the same. cosine: 1 - cosine, over tokens.
    """
    predicted, target = translated.float(), tokens.detach().float()
    if kind == "cosine":
        distance = 1 - F.cosine_similarity(predicted, target, dim=-1)
    else:
        distance = (predicted - (F.layer_norm(target, target.shape[-1:]) if kind == "ln_mse" else target)).square()
    total = distance.sum()
    return Term(total, torch.full_like(total, distance.numel()).detach(), weight)


def soft_label_loss(
    logits: Tensor, soft_labels: Tensor, valid: Tensor, *, weight: float, temperature: float = 1.0
) -> Term:
    """Mean Kullback-Leibler divergence of a student from `soft_labels` (B, N, H, W, probabilities), over valid pixels.

    Each pixel is weighted by the highest probability of its soft label. The factor T² keeps the size of the gradient at
    any temperature T.
    """
    target = soft_labels.detach().float()
    confidence = target.amax(dim=1)
    if temperature != 1:
        target = (target.clamp_min(1e-12).log() / temperature).softmax(dim=1)
    predicted = (logits.float() / temperature).log_softmax(dim=1)
    divergence = (torch.xlogy(target, target) - target * predicted).sum(dim=1)
    loss = temperature**2 * confidence * divergence * valid
    return Term(loss.sum(), valid.float().sum(), weight)
