"""The same sliding window outside of predict: over an image in memory, or a part of one that is read by windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.geo.read.reader import reflected
from co2s_cli.inference.stitch import BlendWeights, WindowValues, stitch
from co2s_cli.tiling import TilePlan, Window


def stride_of(tile: int, overlap: float) -> int:
    """Pixels from one window to the next where they share `overlap` of a window, rounded down: as predict does."""
    return tile - int(tile * overlap)


def published_stride(tile: int, overlap: float) -> int:
    """The same as the published code rounds it: the step down, not what is shared."""
    return max(1, int(tile * (1 - overlap) + 1e-9))


@dataclass(frozen=True, slots=True)
class Sliding:
    """How an image is cut into windows, run and blended; the defaults are those of predict."""

    tile: int = 512
    """Side of a window in pixels."""
    stride: int | None = None
    """Pixels from one window to the next; three quarters of a window by default."""
    blend: Literal["probabilities", "logits"] = "probabilities"
    """What the windows' mean is taken of."""
    taper: Literal["smooth", "flat"] = "smooth"
    """smooth: a window counts less towards its edges; flat: everywhere the same."""
    short_side: int | None = None
    """Images are resized to this shorter side first, and the result back."""
    batch: int = 1
    """Windows that run at once."""

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.tile:
            raise ValueError(f"need 1 <= stride <= tile, got stride={self.stride}, tile={self.tile}")

    @property
    def step(self) -> int:
        """The stride in force."""
        return self.tile - self.tile // 4 if self.stride is None else self.stride

    @torch.no_grad()
    def __call__(self, logits: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Blended values (N, H, W) in float32 for an image (C, H, W), by `logits`: (B, C, h, w) → (B, N, h, w)."""
        seen = self._resized(image)
        height, width = seen.shape[-2:]
        blended = self.part(logits, partial(_cut, seen), of=(height, width), area=Window(0, 0, height, width))
        if seen is image:
            return blended
        return F.interpolate(blended[None], image.shape[-2:], mode="bilinear", align_corners=True)[0]

    @torch.no_grad()
    def part(
        self,
        logits: Callable[[Tensor], Tensor],
        view: Callable[[Window], Tensor],
        *,
        of: tuple[int, int],
        area: Window,
    ) -> Tensor:
        """Blended values (N, h, w) in float32 of an area of an image of `of` (rows, columns), which is not resized.

        `view` hands out the pixels (C, tile, tile) of a window. The windows are those of the whole image, so the area
        has the values that it has in the map of all of it; those that do not touch the area are not asked for.
        """
        plan = TilePlan.of(*of, tile=self.tile, overlap=self.tile - self.step)
        windows = self._values(logits, view, plan, area)
        first = next(windows)
        strips = stitch(
            _again(first, windows), plan=plan, area=area, depth=len(first.values), device=first.values.device
        )
        return torch.cat([strip.blended.clone() for strip in strips if strip.blended is not None], dim=1)

    def _resized(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.short_side is None or min(height, width) == self.short_side:
            return image
        factor = self.short_side / min(height, width)
        size = (round(height * factor), round(width * factor))
        return F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]

    def _values(
        self, logits: Callable[[Tensor], Tensor], view: Callable[[Window], Tensor], plan: TilePlan, area: Window
    ) -> Iterator[WindowValues]:
        """Weighted values of every window that touches the area, in row-major order."""
        weights: BlendWeights | None = None
        valid = np.ones((plan.tile, plan.tile), np.bool_)
        keys = list(product(*plan.overlapping(area)))
        for start in range(0, len(keys), self.batch):
            batch = keys[start : start + self.batch]
            values = logits(torch.stack([view(plan.window(*key)) for key in batch])).float()
            weights = weights or BlendWeights(plan, values.device, flat=self.taper == "flat")
            if self.blend == "probabilities":
                values = values.softmax(dim=1)
            for (down, across), window_values in zip(batch, values, strict=True):
                yield WindowValues(down, across, weights.apply(window_values.clone(), down, across), valid)


def _cut(image: Tensor, window: Window) -> Tensor:
    """The pixels of a window, mirrored at the edges of an image that is smaller."""
    height, width = image.shape[-2:]
    if window.bottom <= height and window.right <= width:
        return image[..., window.slices[0], window.slices[1]]
    rows = torch.from_numpy(reflected(window.row, window.bottom, height)).to(image.device)
    cols = torch.from_numpy(reflected(window.col, window.right, width)).to(image.device)
    return image[..., rows, :][..., cols]


def _again(first: WindowValues, rest: Iterator[WindowValues]) -> Iterator[WindowValues]:
    """`first`, then `rest`."""
    yield first
    yield from rest
