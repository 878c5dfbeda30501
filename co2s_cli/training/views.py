"""What a student says about every view of a batch, in one pass through its encoder and one through its decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from co2s_cli.data.batch import Batch

FEATURE_STREAM = 9
"""Stream of random numbers; the loader uses lower ones."""

DROPPED = 0.5
"""Share of the channels that feature perturbation drops, as published."""

Guide = Callable[[Tensor], Tensor]
"""Images (B, C, S, S) → class probabilities (B, N, S, S) without gradient: who gives the pseudo-labels."""


class Learner(Protocol):
    """What every kind of student does; its taps are a named tuple of tensors whose first axis is the batch."""

    backbone: Any

    def encode(self, images: Tensor) -> Any:
        """Taps of a batch of images."""

    def decode(self, taps: Any, size: tuple[int, ...]) -> Tensor:
        """Logits of `size`."""


@dataclass(frozen=True, slots=True)
class Views:
    """What one student says, as logits (·, N, S, S), and what it is told."""

    labeled: Tensor
    weak: Tensor
    """Of the own unlabelled crops; (0, …) where only pseudo-labels are wanted of them and a guide gives those."""
    strong: tuple[Tensor, ...]
    feature: Tensor | None
    """Of the weak crops with dropped feature channels."""
    guide: Tensor
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: what pseudo-labels are made of."""
    taught: Tensor | None = None
    """Probabilities (b, N, S, S) of the labelled crops by the guide, where they are wanted."""
    shown: Tensor | None = None
    """The images that frozen teachers are shown too: the labelled ones, then the strong ones as they were pasted."""
    translated: Mapping[str, Tensor] = field(default_factory=dict)
    """What the student says of those, in the tokens of each teacher."""


class Passes:
    """The encoder and the decoder of a student, compiled or recomputed in the backward pass if wanted."""

    def __init__(self, student: Learner, *, compiled: bool = False, checkpointed: bool = False) -> None:
        self._student: Any = student
        self._encode: Callable[[Tensor], Any] = torch.compile(student.encode) if compiled else student.encode
        self._decode: Callable[[Any, tuple[int, ...]], Tensor] = (
            torch.compile(student.decode) if compiled else student.decode
        )
        self._checkpointed = checkpointed

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each map of a guided student's taps."""
        widths: tuple[int, ...] = self._student.widths
        return widths

    def encode(self, images: Tensor) -> Any:
        """Taps of a batch of images."""
        if self._checkpointed and torch.is_grad_enabled():
            return checkpoint(self._encode, images, use_reentrant=False)
        return self._encode(images)

    def decode(self, taps: Any, size: tuple[int, ...]) -> Tensor:
        """Logits of `size` of a batch of taps."""
        if self._checkpointed and torch.is_grad_enabled():
            logits: Tensor = checkpoint(self._decode, taps, size, use_reentrant=False)
            return logits
        return self._decode(taps, size)

    def translated(self, taps: Any) -> Mapping[str, Tensor]:
        """What a dense student says in the tokens of each teacher."""
        tokens: Mapping[str, Tensor] = self._student.translated(taps)
        return tokens

    @torch.no_grad()
    def chances(self, images: Tensor) -> Tensor:
        """Class probabilities of a batch of images, without gradient."""
        return self.decode(self.encode(images), images.shape[-2:]).float().softmax(dim=1)


def look(
    passes: Passes,
    batch: Batch,
    *,
    strong: int,
    feature: Sequence[Tensor] | None = None,
    own_weak: bool = False,
    guide: Guide | None = None,
    taught: bool = False,
    translated: bool = False,
) -> Views:
    """What a student says about a batch; `strong` views and, given channel masks, the feature view are used.

    Without a `guide` the weak view's logits serve pseudo-labels and losses alike, so that they are computed once. With
    one the student itself looks at that view only if `own_weak`. Partners are weak views of the same batch; only the
    extra ones cost a pass of their own. `taught`: the guide speaks about the labelled crops too. `translated`: the
    student speaks in the teachers' tokens, never of the weak view.
    """
    own, size = len(batch.images), batch.images.shape[-2:]
    uses_weak = strong > 0 or feature is not None
    looks = uses_weak and (own_weak or guide is None or feature is not None)
    weak = batch.weak[:own] if looks else batch.weak[:0]
    mixed = [pasted(batch, view) for view in range(strong)]
    taps = passes.encode(torch.cat([batch.images, weak, *mixed]))
    spoken = passes.translated(_without(taps, own, own + len(weak))) if translated else {}
    if feature is not None:
        dropped = (
            tap[own : 2 * own] * mask[..., None, None].to(tap.dtype) for tap, mask in zip(taps, feature, strict=True)
        )
        taps = type(taps)(*(torch.cat(pair) for pair in zip(taps, dropped, strict=True)))
    logits = passes.decode(taps, size)
    sizes = [own, len(weak), *[own] * strong, *([own] if feature is not None else [])]
    labeled, weak_logits, *rest = torch.split(logits, sizes)
    return Views(
        labeled=labeled,
        weak=weak_logits,
        strong=tuple(rest[:strong]),
        feature=rest[strong] if feature is not None else None,
        guide=_guided(passes, batch, weak_logits, guide) if uses_weak else weak_logits.detach(),
        taught=guide(batch.images) if taught and guide is not None else None,
        shown=torch.cat([batch.images, *mixed]) if translated else None,
        translated=spoken,
    )


def _guided(passes: Passes, batch: Batch, weak: Tensor, guide: Guide | None) -> Tensor:
    """Probabilities of all weak crops, without gradient: the guide's, else the student's own."""
    if guide is not None:
        return guide(batch.weak)
    own, extra = weak.detach().float().softmax(dim=1), batch.weak[len(weak) :]
    return torch.cat([own, passes.chances(extra)]) if len(extra) else own


def _without(taps: Any, first: int, last: int) -> Any:
    """Taps less those of the images `first` … `last - 1`."""
    return taps if first == last else type(taps)(*(torch.cat([tap[:first], tap[last:]]) for tap in taps))


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
