"""The image tower of open_clip as a backbone. In a module of its own, so that other models need no open_clip."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from torch import Tensor, nn

from co2s_cli.models.manifest import BackboneSpec
from co2s_cli.models.taps import Backbone, Taps, check_depth


class ClipBackbone(Backbone):
    """CLIP's image tower with dense outputs as in MaskCLIP: at the taps only the value path of attention is used."""

    def __init__(self, spec: BackboneSpec, taps: tuple[int, int, int]) -> None:
        super().__init__(spec, taps)
        check_depth(taps, spec.options["layers"])
        self.visual = _clip_tower(spec)
        self.first_weight = "visual.conv1.weight"
        self.patch = self.visual.patch_size[0]
        self.skip_width = self.visual.conv1.out_channels
        self.semantic_width = self.visual.output_dim

    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens (B, L, width) after the last block with its full attention, before the final norm."""
        tokens, _ = self._embedded((images - self.mean) / self.std)
        for block in self.visual.transformer.resblocks:
            tokens = block(tokens)
        return tokens[:, 1:]

    def _taps(self, images: Tensor) -> Taps:
        visual = self.visual
        tokens, grid = self._embedded(images)
        tapped: list[Tensor] = []
        for index, block in enumerate(visual.transformer.resblocks):
            if index in self.taps:
                tapped.append(_value_path(block, tokens)[:, 1:])
            if index == self.taps[-1]:
                break  # nothing uses the full attention of the last block
            tokens = block(tokens)
        shallow, deep, last = tapped
        semantic = F.normalize(visual.ln_post(last) @ visual.proj, dim=-1)
        return Taps(*(_as_map(item, grid) for item in (shallow, deep, semantic)))

    def _embedded(self, images: Tensor) -> tuple[Tensor, torch.Size]:
        """Class and patch tokens (B, 1 + L, width) before the first block, and their grid (rows, columns)."""
        visual = self.visual
        patches = visual.conv1(images)
        grid = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([class_token, tokens], dim=1)
        return visual.ln_pre(tokens + resize_positions(visual.positional_embedding, grid).to(tokens.dtype)), grid


def resize_positions(table: Tensor, grid: torch.Size) -> Tensor:
    """Learned positions (1 + g², width) resampled to `grid`: bicubic without antialias. The class token's row stays.

    open_clip and timm resample with antialias, whose kernel differs even where it enlarges; the published models and
    other dense uses of CLIP do not.
    """
    side = round((len(table) - 1) ** 0.5)
    if tuple(grid) == (side, side):
        return table
    square = table[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square.float(), size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized.flatten(2)[0].T.to(table.dtype)])


def _value_path(block: Any, tokens: Tensor) -> Tensor:
    """Output of a block with the identity as attention matrix: x + out(value(LN(x))), then the MLP."""
    attention = block.attn
    width = tokens.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    values = F.linear(block.ln_1(tokens), weight, bias)
    tokens = tokens + attention.out_proj(values)
    out: Tensor = tokens + block.mlp(block.ln_2(tokens))
    return out


def _as_map(tokens: Tensor, grid: torch.Size) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)


def _clip_tower(spec: BackboneSpec) -> VisionTransformer:
    options = spec.options
    tower = VisionTransformer(
        image_size=options["image_size"],
        patch_size=options["patch_size"],
        width=options["width"],
        layers=options["layers"],
        heads=options["heads"],
        mlp_ratio=options["mlp_ratio"],
        output_dim=options["output_width"],
        act_layer=QuickGELU if options["quick_gelu"] else nn.GELU,
        norm_layer=partial(LayerNorm, eps=options["norm_eps"]),
    )
    if len(spec.mean) != tower.conv1.in_channels:  # open_clip only builds towers for three bands
        first = tower.conv1
        tower.conv1 = nn.Conv2d(len(spec.mean), first.out_channels, first.kernel_size, first.stride, bias=False)
    return tower
