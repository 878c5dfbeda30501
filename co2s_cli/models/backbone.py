"""Backbones by description: timm's transformers here, open_clip's tower from its own file."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
from timm.layers.norm import LayerNorm
from torch import Tensor

from co2s_cli.models import positions, rope
from co2s_cli.models.manifest import BackboneSpec
from co2s_cli.models.taps import Backbone, Taps, check_depth

SIZES = frozenset({"embed_dim", "depth", "num_heads"})
"""What a tiny model may change about the architecture of its name."""

_MOST_SCORES = 8_000_000
"""Of one attention: 32 MB in float32. Larger pieces come fresh from the system every time, which eats the gain."""


class TimmBackbone(Backbone):
    """A timm transformer (DINOv3, DINOv2): block outputs through the final norm, prefix tokens dropped."""

    def __init__(self, spec: BackboneSpec, taps: tuple[int, ...]) -> None:
        super().__init__(spec, taps)
        self.vit: Any = _timm_vit(spec)
        self.first_weight = "vit.patch_embed.proj.weight"
        check_depth(taps, len(self.vit.blocks))
        self.patch = self.vit.patch_embed.patch_size[0]
        self.skip_width = self.semantic_width = self.vit.embed_dim

    def maps(self, images: Tensor, taps: tuple[int, ...] | None = None) -> list[Tensor]:
        """A map (B, width, h, w) for each block of `taps`, of `images` as `forward` takes them."""
        return self._maps((images - self.mean) / self.std, taps or self.taps)

    def split_attention(self, tile: int) -> None:
        """Attend by plain matrix products, in images of `tile` pixels, unless the scores would take much memory.

        On a CPU in bfloat16 that is quicker than the fused kernel, which multiplies in float32 there.
        """
        tokens = self.vit.num_prefix_tokens + (-(-tile // self.patch)) ** 2
        for block in self.vit.blocks:
            if block.attn.num_heads * tokens**2 <= _MOST_SCORES:
                block.attn.fused_attn = False

    def _taps(self, images: Tensor) -> Taps:
        return Taps(*self._maps(images, self.taps))

    def _maps(self, images: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        maps: list[Tensor] = self.vit.forward_intermediates(
            images, indices=list(taps), norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def build(spec: BackboneSpec, taps: tuple[int, int, int]) -> Backbone:
    """A freshly initialised backbone; weights are loaded into it afterwards."""
    if spec.library == "timm":
        return TimmBackbone(spec, taps)
    from co2s_cli.models.clip_tower import ClipBackbone  # only where it is wanted: a single student needs no open_clip

    return ClipBackbone(spec, taps)


def _timm_vit(spec: BackboneSpec) -> Any:
    """The transformer by its timm name; `sizes` overrides what the name implies (tiny models).

    Names and sizes may come from a file that nobody vouches for: neither may make timm open a file or an address.
    """
    unknown = set(spec.options.get("sizes", {})) - SIZES
    if unknown or ":" in spec.name or not timm.is_model(spec.name.partition(".")[0]):
        raise ValueError(f"timm knows no {spec.name}" if not unknown else f"sizes may not set {', '.join(unknown)}")
    norm = partial(LayerNorm, eps=spec.options["norm_eps"])
    sizes = spec.options.get("sizes", {})
    vit = timm.create_model(
        spec.name,
        pretrained=False,
        num_classes=0,
        in_chans=len(spec.mean),
        dynamic_img_size=True,
        norm_layer=norm,
        **sizes,
    )
    if spec.options.get("rope") == "bfloat16":
        rope.lower_precision(vit)
    if spec.options.get("positions") == "meta":
        positions.by_metas_rule(vit)
    return vit
