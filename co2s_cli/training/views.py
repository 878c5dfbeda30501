"""What a student says about every view of a batch, in one pass through its encoder and one through its decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from co2s_cli.data.loader import Batch
from co2s_cli.models.backbone import Taps
from co2s_cli.models.student import Student

FEATURE_STREAM = 9
"""Stream of random numbers; the loader uses lower ones."""

DROPPED = 0.5
"""Share of the channels that feature perturbation drops, as published."""


@dataclass(frozen=True, slots=True)
class Views:
    """Logits (·, N, S, S) of one student."""

    labeled: Tensor
    weak: Tensor
    """Of the own unlabelled crops; (0, …) where the method uses none."""
    strong: tuple[Tensor, ...]
    feature: Tensor | None
    """Of the weak crops with dropped feature channels."""
    extra: Tensor
    """Of the extra weak crops, without gradient."""


class Passes:
    """The encoder and the decoder of a student, compiled or recomputed in the backward pass if wanted."""

    def __init__(self, student: Student, *, compiled: bool = False, checkpointed: bool = False) -> None:
        self.widths = (student.backbone.skip_width, student.backbone.skip_width, student.backbone.semantic_width)
        self._encode: Callable[[Tensor], Taps] = torch.compile(student.encode) if compiled else student.encode
        self._decode: Callable[[Taps, tuple[int, ...]], Tensor] = (
            torch.compile(student.decode) if compiled else student.decode
        )
        self._checkpointed = checkpointed

    def encode(self, images: Tensor) -> Taps:
        """Taps of a batch of images."""
        if self._checkpointed and torch.is_grad_enabled():
            return Taps(*checkpoint(self._encode, images, use_reentrant=False))
        return self._encode(images)

    def decode(self, taps: Taps, size: tuple[int, ...]) -> Tensor:
        """Logits of `size` of a batch of taps."""
        if self._checkpointed and torch.is_grad_enabled():
            logits: Tensor = checkpoint(self._decode, taps, size, use_reentrant=False)
            return logits
        return self._decode(taps, size)


def look(passes: Passes, batch: Batch, *, strong: int, feature: Sequence[Tensor] | None) -> Views:
    """What a student says about a batch; `strong` views and, given channel masks, the feature view are used.

    The weak view's logits serve the pseudo-labels and the stability loss, so that they are computed once. Partners
    are weak views of the same batch; only the extra ones cost a pass of their own.
    """
    own, size = len(batch.images), batch.images.shape[-2:]
    uses_weak = strong > 0 or feature is not None
    weak = batch.weak[:own] if uses_weak else batch.weak[:0]
    mixed = [pasted(batch, view) for view in range(strong)]
    taps = passes.encode(torch.cat([batch.images, weak, *mixed]))
    if feature is not None:
        dropped = [
            tap[own : 2 * own] * mask[..., None, None].to(tap.dtype) for tap, mask in zip(taps, feature, strict=True)
        ]
        taps = Taps(*(torch.cat(pair) for pair in zip(taps, dropped, strict=True)))
    logits = passes.decode(taps, size)
    sizes = [own, len(weak), *[own] * strong, *([own] if feature is not None else [])]
    labeled, weak_logits, *rest = torch.split(logits, sizes)
    extra = batch.weak[own:] if uses_weak else batch.weak[:0]
    return Views(
        labeled=labeled,
        weak=weak_logits,
        strong=tuple(rest[:strong]),
        feature=rest[strong] if feature is not None else None,
        extra=_without_gradient(passes, extra) if len(extra) else weak_logits[:0].detach(),
    )


def pasted(batch: Batch, view: int) -> Tensor:
    """A strong view of the own crops with the box of the partner's."""
    own = len(batch.images)
    strong = batch.strong[view]
    return torch.where(batch.boxes[view][:, None], strong[batch.partner], strong[:own])


def channel_masks(
    widths: Sequence[int], slots: Sequence[int], *, seed: int, step: int, student: int, device: torch.device
) -> list[Tensor]:
    """A mask (b, channels) for each map: whole channels are dropped, each image and map by itself, the rest doubled."""
    drawn = []
    for slot in slots:
        rng = np.random.default_rng([seed, FEATURE_STREAM, step, slot, student])
        drawn.append([(rng.random(width) >= DROPPED) / (1 - DROPPED) for width in widths])
    return [
        torch.from_numpy(np.stack([masks[index] for masks in drawn]).astype(np.float32)).to(device)
        for index in range(len(widths))
    ]


@torch.no_grad()
def _without_gradient(passes: Passes, images: Tensor) -> Tensor:
    return passes.decode(passes.encode(images), images.shape[-2:])
