"""The views of a batch, and a student's outputs for them: one pass through its encoder, one through its decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from co2s_cli.data.batch import Batch
from co2s_cli.models.student import Student

FEATURE_STREAM, DROPOUT_STREAM = 9, 10
"""Stream numbers that seed the channel masks; the loader uses lower numbers."""

FEATURE_DROP_RATE = 0.5
"""Share of the channels that the feature perturbation drops, as published."""

Guide = Callable[[Tensor], Tensor]
"""The model that makes the pseudo-labels: images (B, C, S, S) → class probabilities (B, N, S, S), without gradient."""


@dataclass(frozen=True, slots=True)
class RequiredViews:
    """The views of a batch that a method needs a student's outputs for, in addition to the labelled crops."""

    strong: int = 0
    """Number of strong views of the unlabelled crops."""
    feature: bool = False
    """Whether the weak view is also decoded with dropped feature channels (the feature view)."""
    weak: bool = False
    """Whether the student's weak-view logits need a gradient, even where a guide makes the pseudo-labels."""
    peers: bool = False
    """Whether the other students' probabilities of the weak view are needed."""
    labeled_guide: bool = False
    """Whether the guide's probabilities of the labelled crops are needed."""
    tokens: bool = False
    """Whether the student's tokens are needed, translated into the feature space of each frozen teacher."""

    @property
    def unlabeled(self) -> bool:
        """Whether any view of the unlabelled crops is needed."""
        return self.strong > 0 or self.feature


@dataclass(frozen=True, slots=True)
class StudentOutputs:
    """Logits (·, N, S, S) of one student for the views of one batch, and the probabilities that its targets come from.

    b is the number of labelled crops of the batch, and of unlabelled ones; extra unlabelled crops only serve as CutMix
    partners.
    """

    labeled: Tensor
    """(b, N, S, S) for the labelled crops."""
    weak: Tensor
    """(b, N, S, S) for the weak view of the b unlabelled crops; (0, N, S, S) where the method needs nothing but their
    pseudo-labels and a guide makes those, or where they have no weight yet."""
    strong: tuple[Tensor, ...]
    """(b, N, S, S) for each strong view."""
    feature: Tensor | None
    """(b, N, S, S) for the weak view with dropped feature channels."""
    guide: Tensor
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: the source of the pseudo-labels."""
    labeled_guide: Tensor | None = None
    """Probabilities (b, N, S, S) that the guide gives the labelled crops."""
    teacher_images: Tensor | None = None
    """Images (B, C, S, S) that the frozen teachers see too: the labelled crops, then each strong view after CutMix."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """By teacher name: the student's tokens of `teacher_images`, translated into that teacher's feature space."""


class StudentForward:
    """The forward pass of a student: its encoder and decoder, optionally compiled or with activation checkpointing."""

    def __init__(self, student: Student, *, compiled: bool = False, checkpointed: bool = False) -> None:
        self._encode: Callable[[Tensor], Any] = torch.compile(student.encode) if compiled else student.encode
        self._decode: Callable[[Any, Sequence[int]], Tensor] = (
            torch.compile(student.decode) if compiled else student.decode
        )
        self.translated = student.translated
        self._checkpointed = checkpointed

    def encode(self, images: Tensor) -> Any:
        """Taps (the feature maps that the decoder takes) of images (B, C, S, S)."""
        if self._checkpointed and torch.is_grad_enabled():
            return checkpoint(self._encode, images, use_reentrant=False)
        return self._encode(images)

    def decode(self, taps: Any, size: Sequence[int]) -> Tensor:
        """Logits (B, N, *size) from the taps of B images."""
        if self._checkpointed and torch.is_grad_enabled():
            logits: Tensor = checkpoint(self._decode, taps, size, use_reentrant=False)
            return logits
        return self._decode(taps, size)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (B, N, S, S) of images (B, C, S, S), without gradient."""
        return self.decode(self.encode(images), images.shape[-2:]).float().softmax(dim=1)


def forward_views(
    student: StudentForward,
    batch: Batch,
    required: RequiredViews,
    *,
    feature_masks: Sequence[Tensor] | None = None,
    dropout_masks: Sequence[Sequence[Tensor]] | None = None,
    guide: Guide | None = None,
) -> StudentOutputs:
    """A student's outputs for all views of a batch, by one pass through its encoder and one through its decoder.

    `feature_masks`: a channel mask (b, channels) for each feature map, which make the feature view. `dropout_masks`:
    such masks for the labelled crops, then for each strong view; the weak view never drops channels. Without a `guide`
    the logits of the weak view serve both pseudo-labels and losses, so that they are computed once; with one the
    student encodes that view only if the method needs it. CutMix partners are weak crops of the same batch; only the
    extra ones cost a forward pass in addition.
    """
    batch_size, size = len(batch.images), batch.images.shape[-2:]
    uses_weak = required.strong > 0 or feature_masks is not None
    encodes_weak = uses_weak and (required.weak or guide is None or feature_masks is not None)
    weak = batch.weak[:batch_size] if encodes_weak else batch.weak[:0]
    strong_images = [cutmix_view(batch, view) for view in range(required.strong)]
    taps = student.encode(torch.cat([batch.images, weak, *strong_images]))
    tokens = student.translated(_without_rows(taps, batch_size, batch_size + len(weak))) if required.tokens else {}
    if dropout_masks is not None:
        labeled_masks, *strong_masks = dropout_masks
        weak_masks = [torch.ones(len(weak), mask.shape[1], device=mask.device) for mask in labeled_masks]
        map_masks = (torch.cat(parts) for parts in zip(labeled_masks, weak_masks, *strong_masks, strict=True))
        taps = type(taps)(*(_masked(tap, mask) for tap, mask in zip(taps, map_masks, strict=True)))
    if feature_masks is not None:
        weak_taps = (tap[batch_size : 2 * batch_size] for tap in taps)
        feature_taps = (_masked(tap, mask) for tap, mask in zip(weak_taps, feature_masks, strict=True))
        taps = type(taps)(*(torch.cat(pair) for pair in zip(taps, feature_taps, strict=True)))
    logits = student.decode(taps, size)
    view_count = required.strong + (feature_masks is not None)
    labeled, weak_logits, *view_logits = torch.split(logits, [batch_size, len(weak), *[batch_size] * view_count])
    return StudentOutputs(
        labeled=labeled,
        weak=weak_logits,
        strong=tuple(view_logits[: required.strong]),
        feature=view_logits[required.strong] if feature_masks is not None else None,
        guide=_weak_probabilities(student, batch, weak_logits, guide) if uses_weak else weak_logits.detach(),
        labeled_guide=guide(batch.images) if required.labeled_guide and guide is not None else None,
        teacher_images=torch.cat([batch.images, *strong_images]) if required.tokens else None,
        tokens=tokens,
    )


def _masked(tap: Tensor, mask: Tensor) -> Tensor:
    """A feature map (b, channels, h, w) times a channel mask (b, channels)."""
    return tap * mask[..., None, None].to(tap.dtype)


def _weak_probabilities(student: StudentForward, batch: Batch, weak_logits: Tensor, guide: Guide | None) -> Tensor:
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: the guide's, else the student's."""
    if guide is not None:
        return guide(batch.weak)
    weak, extra = weak_logits.detach().float().softmax(dim=1), batch.weak[len(weak_logits) :]
    return torch.cat([weak, student.probabilities(extra)]) if len(extra) else weak


def _without_rows(taps: Any, start: int, stop: int) -> Any:
    """Taps without those of the images `start` … `stop - 1` of the batch."""
    return taps if start == stop else type(taps)(*(torch.cat([tap[:start], tap[stop:]]) for tap in taps))


def cutmix_view(batch: Batch, view: int) -> Tensor:
    """Images (b, C, S, S): strong view `view` of the unlabelled crops, with their partners' pixels in the boxes."""
    strong = batch.strong[view]
    return torch.where(batch.boxes[view][:, None], strong[batch.partner], strong[: len(batch.images)])


def channel_masks(
    widths: Sequence[int],
    slots: Sequence[int],
    *,
    seed: int,
    step: int,
    student: int,
    device: torch.device,
    stream: int = FEATURE_STREAM,
    drop_rate: float = FEATURE_DROP_RATE,
) -> list[Tensor]:
    """Masks (b, channels), float32, one for each map: 0 where a crop's channel is dropped, else 1 / (1 - drop_rate).

    `widths` are the channels of each map, `slots` the global slots of the b crops.
    """
    masks_by_slot = []
    for slot in slots:
        rng = np.random.default_rng([seed, stream, step, slot, student])
        masks_by_slot.append([(rng.random(width) >= drop_rate) / (1 - drop_rate) for width in widths])
    return [
        torch.from_numpy(np.stack(masks).astype(np.float32)).to(device, non_blocking=True)
        for masks in zip(*masks_by_slot, strict=True)
    ]
