"""One contract over open_clip and timm: images in [0, 1] → three dense maps. A backbone owns its mean and std."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from timm.layers.norm import LayerNorm as TimmLayerNorm
from torch import Tensor, nn

from co2s_cli.models import positions, rope
from co2s_cli.models.manifest import BackboneSpec

SIZES = frozenset({"embed_dim", "depth", "num_heads"})
"""What a tiny model may change about the architecture of its name."""


class Taps(NamedTuple):
    """Dense maps of one image batch, each (B, channels, grid rows, grid columns)."""

    shallow: Tensor
    deep: Tensor
    semantic: Tensor


class Backbone(nn.Module):
    """A vision transformer that gives `Taps` for images whose sides are multiples of `patch`."""

    patch: int
    skip_width: int
    """Channels of the shallow and of the deep map."""
    semantic_width: int
    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Taps:
        """Taps of `images` (B, C, H, W) in [0, 1]; values outside that range pass unclamped."""
        return self._taps((images - self.mean) / self.std)

    def _taps(self, images: Tensor) -> Taps:
        raise NotImplementedError


class ClipBackbone(Backbone):
    """CLIP's image tower, read as MaskCLIP does: at the taps attention is replaced by its value path."""

    def __init__(self, spec: BackboneSpec, taps: tuple[int, int, int]) -> None:
        super().__init__(spec, taps)
        _check_depth(taps, spec.options["layers"])
        self.visual = _clip_tower(spec)
        self.patch = self.visual.patch_size[0]
        self.skip_width = self.visual.conv1.out_channels
        self.semantic_width = self.visual.output_dim

    def _taps(self, images: Tensor) -> Taps:
        visual = self.visual
        patches = visual.conv1(images)
        grid = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        start = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = torch.cat([start, tokens], dim=1)
        tokens = visual.ln_pre(tokens + resize_positions(visual.positional_embedding, grid).to(tokens.dtype))
        kept: list[Tensor] = []
        for index, block in enumerate(visual.transformer.resblocks):
            if index in self.taps:
                kept.append(_value_path(block, tokens)[:, 1:])
            if index == self.taps[-1]:
                break  # the last block's own attention feeds nothing
            tokens = block(tokens)
        shallow, deep, last = kept
        semantic = F.normalize(visual.ln_post(last) @ visual.proj, dim=-1)
        return Taps(*(_as_map(item, grid) for item in (shallow, deep, semantic)))


class TimmBackbone(Backbone):
    """A timm transformer (DINOv3, DINOv2): block outputs through the final norm, prefix tokens dropped."""

    def __init__(self, spec: BackboneSpec, taps: tuple[int, ...]) -> None:
        super().__init__(spec, taps)
        self.vit: Any = _timm_vit(spec)
        _check_depth(taps, len(self.vit.blocks))
        self.patch = self.vit.patch_embed.patch_size[0]
        self.skip_width = self.semantic_width = self.vit.embed_dim

    def maps(self, images: Tensor, taps: tuple[int, ...] | None = None) -> list[Tensor]:
        """A map (B, width, h, w) for each block of `taps`, of `images` as `forward` takes them."""
        return self._maps((images - self.mean) / self.std, taps or self.taps)

    def _taps(self, images: Tensor) -> Taps:
        return Taps(*self._maps(images, self.taps))

    def _maps(self, images: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        maps: list[Tensor] = self.vit.forward_intermediates(
            images, indices=list(taps), norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def build(spec: BackboneSpec, taps: tuple[int, int, int]) -> Backbone:
    """A freshly initialised backbone; weights are loaded into it afterwards."""
    return ClipBackbone(spec, taps) if spec.library == "open_clip" else TimmBackbone(spec, taps)


def resize_positions(table: Tensor, grid: torch.Size) -> Tensor:
    """Learned positions (1 + g², width) resampled to `grid`: bicubic without antialias; the class token's row stays.

    open_clip and timm resample with antialias, whose kernel differs even when it enlarges; the published models and
    CLIP's own dense users do without.
    """
    side = round((len(table) - 1) ** 0.5)
    if tuple(grid) == (side, side):
        return table
    square = table[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square.float(), size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized.flatten(2)[0].T.to(table.dtype)])


def _value_path(block: Any, tokens: Tensor) -> Tensor:
    """Output of a block whose attention matrix is the identity: out(value(LN(x))) + x, then the MLP."""
    attention = block.attn
    width = tokens.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    values = F.linear(block.ln_1(tokens), weight, bias)
    tokens = tokens + attention.out_proj(values)
    out: Tensor = tokens + block.mlp(block.ln_2(tokens))
    return out


def _as_map(tokens: Tensor, grid: torch.Size) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


def _clip_tower(spec: BackboneSpec) -> VisionTransformer:
    options = spec.options
    return VisionTransformer(
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


def _check_depth(taps: tuple[int, ...], depth: int) -> None:
    if taps[-1] >= depth:
        raise ValueError(f"taps {taps} of a backbone with {depth} blocks")


def _timm_vit(spec: BackboneSpec) -> Any:
    """The transformer by its timm name; `sizes` overrides what the name implies (tiny models).

    Names and sizes may come from a file that nobody vouches for: neither may make timm open a file or an address.
    """
    unknown = set(spec.options.get("sizes", {})) - SIZES
    if unknown or ":" in spec.name or not timm.is_model(spec.name.partition(".")[0]):
        raise ValueError(f"timm knows no {spec.name}" if not unknown else f"sizes may not set {', '.join(unknown)}")
    norm = partial(TimmLayerNorm, eps=spec.options["norm_eps"])
    sizes = spec.options.get("sizes", {})
    vit = timm.create_model(spec.name, pretrained=False, num_classes=0, dynamic_img_size=True, norm_layer=norm, **sizes)
    if spec.options.get("rope") == "bfloat16":
        rope.lower_precision(vit)
    if spec.options.get("positions") == "meta":
        positions.by_metas_rule(vit)
    return vit
