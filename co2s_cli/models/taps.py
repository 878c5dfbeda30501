"""One contract over open_clip and timm: images in [0, 1] → three dense maps. A backbone owns its mean and std."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from co2s_cli.models.manifest import BackboneSpec


class Taps(NamedTuple):
    """Dense maps of one image batch, each (B, channels, grid rows, grid columns)."""

    shallow: Tensor
    deep: Tensor
    semantic: Tensor


class Backbone(nn.Module):
    """A vision transformer that gives `Taps` for images whose sides are multiples of `patch`."""

    patch: int
    first_weight: str
    """Name of the filters that see the bands: (width, bands, patch, patch)."""
    skip_width: int
    """Channels of the shallow and of the deep map."""
    semantic_width: int
    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.taps = taps
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Taps:
        """Taps of `images` (B, C, H, W) in [0, 1]; values outside that range pass unclamped."""
        return self._taps((images - self.mean) / self.std)

    def split_attention(self, tile: int) -> None:
        """Let attention be quick on a CPU in bfloat16, in images of `tile` pixels; nothing where there is no way."""

    def _taps(self, images: Tensor) -> Taps:
        raise NotImplementedError


def check_depth(taps: tuple[int, ...], depth: int) -> None:
    """Refuse taps beyond the last block: they may come from a file that nobody vouches for."""
    if taps[-1] >= depth:
        raise ValueError(f"taps {taps} of a backbone with {depth} blocks")
