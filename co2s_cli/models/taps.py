"""The common interface of open_clip's and timm's backbones: images in [0, 1] → three dense feature maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from co2s_cli.models.manifest import BackboneSpec


class Taps(NamedTuple):
    """Dense feature maps of an image batch, each (B, channels, grid rows, grid columns), by depth in the backbone."""

    shallow: Tensor
    deep: Tensor
    semantic: Tensor


class Backbone(nn.Module):
    """A vision transformer: images with sides that are multiples of `patch` → `Taps`. It standardises its input."""

    patch: int
    """Side of a patch in pixels."""
    first_weight: str
    """Name of the filters of the patch embedding, (width, bands, patch, patch)."""
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
        """Taps of `images` (B, C, H, W) in [0, 1]; values outside this range are not clamped."""
        return self._taps((images - self.mean) / self.std)

    def split_attention(self, tile: int) -> None:
        """Make attention faster on a CPU in bfloat16, for images of `tile` × `tile` pixels, where that is possible."""

    def _taps(self, images: Tensor) -> Taps:
        raise NotImplementedError


def check_depth(taps: tuple[int, ...], depth: int) -> None:
    """Refuse taps beyond the last block: they may come from an untrusted file.

    Raises:
        ValueError: there are fewer blocks.
    """
    if taps[-1] >= depth:
        raise ValueError(f"taps {taps} of a backbone with {depth} blocks")
