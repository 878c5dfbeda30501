"""What a step sees: crops as they are drawn on the CPU, and the views on the device that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from co2s_cli.data.augment import Box
from co2s_cli.data.strong import BandChange, StrongParams, changed_bands, strong_views


@dataclass(frozen=True, slots=True)
class Batch:
    """What a rank sees of one step: b labelled, b unlabelled crops, and those extra ones that partners need."""

    step: int
    slots: tuple[int, ...]
    """The global slots of the crops."""
    images: Tensor
    """(b, bands, S, S)"""
    labels: Tensor
    """(b, S, S)"""
    seen: Tensor
    """(b, S, S), False where `images` are padding or nodata."""
    weak: Tensor
    """(b + extra, bands, S, S): the unlabelled crops, then the extra ones. Without unlabelled data (0, …)."""
    strong: tuple[Tensor, ...]
    """Strong views of `weak`, each of its shape."""
    valid: Tensor
    """(b + extra, S, S)"""
    boxes: tuple[Tensor, ...]
    """For each strong view (b, S, S): where the partner is pasted."""
    partner: Tensor
    """(b,): place in `weak` of each crop's CutMix partner."""
    weights: Tensor | None = None
    """(b, S, S) how much each label counts; None where all count fully."""


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """Everything that was read and drawn for a batch, in little memory, on the CPU.

    Crops are uint8 (0 … 255 for 0 … 1) where the images are, else float32; strong views and boxes are parameters.
    """

    step: int
    slots: tuple[int, ...]
    images: Tensor
    """(b, bands, S, S)"""
    labels: Tensor
    """(b, S, S) uint8"""
    seen: Tensor
    """(b, S, S), False where `images` are padding or nodata."""
    weak: Tensor
    """(b + extra, bands, S, S)"""
    valid: Tensor
    """(b + extra, S, S)"""
    strong: tuple[tuple[StrongParams, ...], ...]
    """For each strong view the parameters of each crop of `weak`."""
    boxes: tuple[tuple[Box, ...], ...]
    """For each strong view the CutMix box of each of the b crops."""
    partner: Tensor
    """(b,): place in `weak` of each crop's CutMix partner."""
    weights: Tensor | None = None
    """(b, S, S) how much each label counts; None where all count fully."""
    changes: tuple[BandChange, ...] = ()
    """How the bands of each labelled crop change; empty = not."""
    rgb: tuple[int, int, int] | None = (0, 1, 2)
    """The bands that are red, green and blue; None where there are no such bands."""

    def first(self, size: int) -> DrawnBatch:
        """The first crops of each kind, partners among themselves: what a batch of `size` costs."""
        own = slice(0, size)
        return replace(
            self,
            slots=self.slots[own],
            images=self.images[own],
            labels=self.labels[own],
            seen=self.seen[own],
            weak=self.weak[own],
            valid=self.valid[own],
            strong=tuple(view[own] for view in self.strong),
            boxes=tuple(boxes[own] for boxes in self.boxes),
            partner=self.partner[own] % size,
            weights=None if self.weights is None else self.weights[own],
            changes=self.changes[own],
        )

    def pinned(self) -> DrawnBatch:
        """The same in page-locked memory, from where a GPU fetches it while it computes."""
        names = ("images", "labels", "seen", "weak", "valid", "partner", "weights")
        tensors = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **{name: value.pin_memory() for name, value in tensors.items()})

    def to(self, device: torch.device, *, strong: bool = True) -> Batch:
        """The views on a device, computed there; without `strong` the strong ones are left out."""
        images, weak = _as_float(self.images, device), _as_float(self.weak, device)
        seen = self.seen.to(device, non_blocking=True)
        if self.changes:
            images = changed_bands(images, self.changes) * seen[:, None]
        side = self.images.shape[-1]
        return Batch(
            step=self.step,
            slots=self.slots,
            images=images,
            labels=self.labels.to(device, non_blocking=True).long(),
            seen=seen,
            weak=weak,
            strong=tuple(strong_views(weak, params, self.rgb) for params in self.strong if strong),
            valid=self.valid.to(device, non_blocking=True),
            boxes=tuple(box_masks(boxes, side, device) for boxes in self.boxes),
            partner=self.partner.to(device, non_blocking=True),
            weights=None if self.weights is None else self.weights.to(device, non_blocking=True),
        )


def compact(crops: Tensor) -> Tensor:
    """Crops in [0, 1] as uint8, to the nearest of 255 steps."""
    return crops.mul(255).round_().to(torch.uint8)


def box_masks(boxes: Sequence[Box], side: int, device: torch.device) -> Tensor:
    """Masks (b, side, side), True inside each box."""
    row, col, height, width = torch.tensor(boxes).to(device, non_blocking=True).T[..., None]
    pixels = torch.arange(side, device=device)
    rows = (pixels >= row) & (pixels < row + height)
    cols = (pixels >= col) & (pixels < col + width)
    masks: Tensor = rows[:, :, None] & cols[:, None, :]
    return masks


def _as_float(crops: Tensor, device: torch.device) -> Tensor:
    moved = crops.to(device, non_blocking=True)
    return moved.float().div_(255) if crops.dtype == torch.uint8 else moved
