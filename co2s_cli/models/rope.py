"""Rotary position embedding in bfloat16, as in the published DINOv3 student; timm and Meta's hub use float32."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def use_bfloat16_rope(vit: Any) -> None:
    """Make a timm DINOv3 compute its rotary positions and rotations in bfloat16; parameters keep their names."""
    vit.rope = Bfloat16Rope(len(vit.rope.periods))
    for block in vit.blocks:
        block.attn = Bfloat16RopeAttention(block.attn)


class Bfloat16Rope(nn.Module):
    """Sines and cosines of the patch positions, computed in bfloat16 throughout."""

    periods: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        exponents = torch.arange(count, dtype=torch.float32) / count
        self.register_buffer("periods", (100.0**exponents).bfloat16(), persistent=False)

    def get_embed(self, shape: list[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Concatenated sin and cos (rows · columns, 2 · head width) for a grid of `shape` (rows, columns)."""
        assert shape is not None
        options = {"device": self.periods.device, "dtype": torch.bfloat16}
        axes = [torch.arange(0.5, length, **options) / length for length in shape]  # type: ignore[call-overload]
        coords = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
        coords = 2.0 * coords - 1.0
        angles = (2 * math.pi * coords[:, :, None] / self.periods).flatten(1).tile(2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(dtype or torch.bfloat16)


class Bfloat16RopeAttention(nn.Module):
    """timm's attention, in which the patch tokens of q and k are cast to bfloat16, rotated, and cast back."""

    k_bias: Tensor

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = original.num_heads
        self.prefix: int = original.num_prefix_tokens
        self.qkv: nn.Linear = original.qkv
        self.proj: nn.Linear = original.proj
        self.q_bias: nn.Parameter = original.q_bias
        self.v_bias: nn.Parameter = original.v_bias
        self.register_buffer("k_bias", original.k_bias, persistent=False)

    def forward(self, x: Tensor, rope: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Self-attention of tokens (B, L, C); `rope` rotates all but the prefix tokens."""
        batch, length, width = x.shape
        bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self._rotate(q, rope), self._rotate(k, rope)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out

    def _rotate(self, x: Tensor, rope: Tensor) -> Tensor:
        prefix, patches = x[:, :, : self.prefix], x[:, :, self.prefix :].bfloat16()
        sin, cos = rope.chunk(2, dim=-1)
        first, second = patches.chunk(2, dim=-1)
        rotated = patches * cos + torch.cat([-second, first], dim=-1) * sin
        return torch.cat([prefix, rotated.to(x.dtype)], dim=2)
