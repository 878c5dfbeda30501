"""The sliding window of `predict` for other callers: over an image in memory, or an area read window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.geo.read.reader import reflected
from co2s_cli.inference.stitch import BlendWeights, WindowValues, stitch
from co2s_cli.tiling import TilePlan, Window


def stride_of(tile: int, overlap: float) -> int:
    """Stride in pixels for windows that share the fraction `overlap`; the overlap is rounded down, as in predict."""
    return tile - int(tile * overlap)


def published_stride(tile: int, overlap: float) -> int:
    """Stride in pixels as the published code computes it: the stride is rounded down, not the overlap."""
    return max(1, int(tile * (1 - overlap) + 1e-9))


@dataclass(frozen=True, slots=True)
class Sliding:
    """How an image is cut into windows, run and blended; the defaults are those of predict."""

    tile: int = 512
    """Side of a window in pixels."""
    stride: int | None = None
    """Pixels from one window to the next; None: three quarters of a window."""
    blend: Literal["probabilities", "logits"] = "probabilities"
    """Which values of overlapping windows are averaged."""
    taper: Literal["smooth", "flat"] = "smooth"
    """smooth: blend weights decrease towards a window's edges; flat: they are equal everywhere."""
    short_side: int | None = None
    """Images are first resized so that their shorter side has this many pixels, and the result is resized back."""
    batch: int = 1
    """Windows in one forward pass."""

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
        resized = self._resized(image)
        height, width = resized.shape[-2:]
        blended = self.part(logits, partial(_crop, resized), of=(height, width), area=Window(0, 0, height, width))
        if resized is image:
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
        """Blended values (N, h, w) in float32 of an area of a large image, which is not resized.

        The windows are those of the whole image, so the area gets the same values as in a map of the whole image;
        windows that do not touch the area are not run.

        Args:
            logits: (B, C, tile, tile) → (B, N, tile, tile).
            view: returns the pixels (C, tile, tile) of a window.
            of: rows and columns of the whole image.
            area: the part of the image whose values are wanted.
        """
        plan = TilePlan.of(*of, tile=self.tile, overlap=self.tile - self.step)
        windows = self._values(logits, view, plan, area)
        first = next(windows)  # tells the number of values and the device
        strips = stitch(
            chain([first], windows), plan=plan, area=area, depth=len(first.values), device=first.values.device
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


def _crop(image: Tensor, window: Window) -> Tensor:
    """The pixels (C, tile, tile) of a window; beyond the edges of a smaller image they are mirrored."""
    height, width = image.shape[-2:]
    if window.bottom <= height and window.right <= width:
        return image[..., window.slices[0], window.slices[1]]
    rows = torch.from_numpy(reflected(window.row, window.bottom, height)).to(image.device)
    cols = torch.from_numpy(reflected(window.col, window.right, width)).to(image.device)
    return image[..., rows, :][..., cols]
