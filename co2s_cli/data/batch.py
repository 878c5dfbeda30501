"""Batches of one step: crops and view parameters drawn on the CPU, and the views computed from them on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from co2s_cli.data.augment import Box
from co2s_cli.data.strong import BandChange, StrongParams, changed_bands, strong_views


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's part of a step, on the device.

    It has b labelled and b unlabelled crops of side S, and extra unlabelled crops that only serve as CutMix partners.
    """

    step: int
    slots: tuple[int, ...]
    """Positions of the b crops in the batch of all ranks."""
    images: Tensor
    """(b, bands, S, S) float32 in [0, 1]: labelled crops."""
    labels: Tensor
    """(b, S, S) int64 class ids, `IGNORE` = not labelled."""
    seen: Tensor
    """(b, S, S) True where `images` are valid, False in padding and nodata."""
    weak: Tensor
    """(b + extra, bands, S, S): weak views of the unlabelled crops, then of the extra ones; (0, …) without any."""
    strong: tuple[Tensor, ...]
    """Strong views of `weak`, each of the same shape."""
    valid: Tensor
    """(b + extra, S, S) True where `weak` is valid, False in padding, nodata and held-out parts."""
    boxes: tuple[Tensor, ...]
    """For each strong view (b, S, S): True where CutMix pastes the partner."""
    partner: Tensor
    """(b,) index in `weak` of each crop's CutMix partner."""
    weights: Tensor | None = None
    """(b, S, S) weight of each label; None if all weigh 1."""


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """All that is read and drawn on the CPU for a `Batch`, in a compact form.

    Fields are those of `Batch`, except: crops are uint8 (0 … 255 for 0 … 1) if the images are, else float32; strong
    views and boxes are parameters instead of tensors.
    """

    step: int
    slots: tuple[int, ...]
    images: Tensor
    """(b, bands, S, S)"""
    labels: Tensor
    """(b, S, S) uint8"""
    seen: Tensor
    """(b, S, S) True where `images` are valid, False in padding and nodata."""
    weak: Tensor
    """(b + extra, bands, S, S)"""
    valid: Tensor
    """(b + extra, S, S) True where `weak` is valid."""
    strong: tuple[tuple[StrongParams, ...], ...]
    """For each strong view: the parameters of each crop in `weak`."""
    boxes: tuple[tuple[Box, ...], ...]
    """For each strong view: the CutMix box of each of the b crops."""
    partner: Tensor
    """(b,) index in `weak` of each crop's CutMix partner."""
    weights: Tensor | None = None
    """(b, S, S) weight of each label; None if all weigh 1."""
    changes: tuple[BandChange, ...] = ()
    """Change of the bands of each labelled crop; empty: no change."""
    rgb: tuple[int, int, int] | None = (0, 1, 2)
    """Indices of the red, green and blue bands; None if one of them is missing."""

    def first(self, size: int) -> DrawnBatch:
        """A batch of the first `size` crops of each kind, with partners among these; for measuring its cost."""
        kept = slice(0, size)
        return replace(
            self,
            slots=self.slots[kept],
            images=self.images[kept],
            labels=self.labels[kept],
            seen=self.seen[kept],
            weak=self.weak[kept],
            valid=self.valid[kept],
            strong=tuple(view[kept] for view in self.strong),
            boxes=tuple(boxes[kept] for boxes in self.boxes),
            partner=self.partner[kept] % size,
            weights=None if self.weights is None else self.weights[kept],
            changes=self.changes[kept],
        )

    def pinned(self) -> DrawnBatch:
        """The same batch in page-locked memory, which a GPU can copy from while it computes."""
        names = ("images", "labels", "seen", "weak", "valid", "partner", "weights")
        tensors = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **{name: value.pin_memory() for name, value in tensors.items()})

    def to(self, device: torch.device, *, strong: bool = True) -> Batch:
        """The batch on `device`, where its views are computed; without `strong` no strong views are."""
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
    """Crops in [0, 1] as uint8 in 0 … 255, rounded; overwrites `crops`."""
    return crops.mul(255).round_().to(torch.uint8)


def box_masks(boxes: Sequence[Box], side: int, device: torch.device) -> Tensor:
    """Masks (b, side, side) on `device`, True inside each box."""
    row, col, height, width = torch.tensor(boxes).to(device, non_blocking=True).T[..., None]
    pixels = torch.arange(side, device=device)
    rows = (pixels >= row) & (pixels < row + height)
    cols = (pixels >= col) & (pixels < col + width)
    masks: Tensor = rows[:, :, None] & cols[:, None, :]
    return masks


def _as_float(crops: Tensor, device: torch.device) -> Tensor:
    """Crops in [0, 1] on `device`, the inverse of `compact`."""
    moved = crops.to(device, non_blocking=True)
    return moved.float().div_(255) if crops.dtype == torch.uint8 else moved
