"""Position embeddings of DINOv2 for any grid, resampled by the rule of Meta's code, with which it was trained."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

_OFFSET = 0.1
"""Added to the grid's length before the scale is computed, as in Meta's code: rounding then never loses a row."""


def use_meta_rule(vit: Any) -> None:
    """Make a timm DINOv2 resample its positions as Meta's code does; timm's rule differs for other grids than trained.

    Raises:
        ValueError: the transformer has other positions, or other tokens before the patches.
    """
    if type(vit) is not VisionTransformer or vit.no_embed_class or vit.num_prefix_tokens != 1:
        raise ValueError("positions by Meta's rule are those of a DINOv2 without registers")
    vit.__class__ = _MetaPositions


class _MetaPositions(VisionTransformer):
    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches (B, h, w, C) → tokens (B, 1 + h · w, C) with their positions."""
        start = self.cls_token.expand(x.shape[0], -1, -1)
        positions = resampled(self.pos_embed, tuple(x.shape[1:3]))
        tokens: Tensor = self.pos_drop(torch.cat([start, x.flatten(1, 2)], dim=1) + positions)
        return tokens


def resampled(positions: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Positions (1, 1 + g², C) for another grid: bicubic without antialias, by a scale that `_OFFSET` enlarges."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return positions
    square = positions[:, 1:].float().transpose(1, 2).reshape(1, -1, side, side)
    scale = [(length + _OFFSET) / side for length in grid]
    resized = F.interpolate(square, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)
