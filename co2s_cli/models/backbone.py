"""Backbones built from their specification: timm's transformers, and open_clip's image tower from `clip_tower`."""

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
"""Sizes in which a tiny model may differ from the timm architecture of its name."""

_MOST_SCORES = 8_000_000
"""Most attention scores (heads × tokens²) of an image for which plain matrix products are used: 32 MB in float32.

The allocator gets larger blocks from the operating system each time, which costs more than the products gain.
"""


class TimmBackbone(Backbone):
    """A timm transformer (DINOv3, DINOv2). Maps are outputs of blocks after the final norm, without prefix tokens."""

    def __init__(self, spec: BackboneSpec, taps: tuple[int, ...]) -> None:
        super().__init__(spec, taps)
        self.vit: Any = _timm_vit(spec)
        self.first_weight = "vit.patch_embed.proj.weight"
        check_depth(taps, len(self.vit.blocks))
        self.patch = self.vit.patch_embed.patch_size[0]
        self.skip_width = self.semantic_width = self.vit.embed_dim

    def maps(self, images: Tensor, taps: tuple[int, ...] | None = None) -> list[Tensor]:
        """A feature map (B, width, h, w) for each block of `taps`, by default the backbone's; `images` in [0, 1]."""
        return self._maps((images - self.mean) / self.std, taps or self.taps)

    def split_attention(self, tile: int) -> None:
        """Compute attention by plain matrix products for images of `tile` pixels, if the scores take little memory.

        On a CPU in bfloat16 they are faster than the fused kernel, which multiplies in float32 there.
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
    """A backbone with random weights, into which the caller loads pretrained ones."""
    if spec.library == "timm":
        return TimmBackbone(spec, taps)
    from co2s_cli.models.clip_tower import ClipBackbone  # imports open_clip, which other students do not need

    return ClipBackbone(spec, taps)


def _timm_vit(spec: BackboneSpec) -> Any:
    """The timm transformer of this name; the option `sizes` of tiny models overrides sizes of the architecture.

    Name and sizes may come from an untrusted file: neither may make timm open a file or an address.
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
        rope.use_bfloat16_rope(vit)
    if spec.options.get("positions") == "meta":
        positions.use_meta_rule(vit)
    return vit
