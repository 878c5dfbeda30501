"""A single student: one transformer, its tokens fused with what its teachers taught it, a DPT head → logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models import mtdf
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.dpt import DptHead
from co2s_cli.models.manifest import DenseSpec
from co2s_cli.models.student import Student


class DenseTaps(NamedTuple):
    """What the encoder says of an image batch; the maps are (B, width, h, w)."""

    first: Tensor
    second: Tensor
    third: Tensor
    last: Tensor
    native: Tensor
    """Tokens (B, L, width) of the second passes, one after another as in `DenseSpec.grids`; without any L is 0."""


class DenseStudent(Student):
    """Logits (B, N, H, W) for images (B, C, H, W) in [0, 1] of any size."""

    def __init__(self, spec: DenseSpec, classes: int) -> None:
        super().__init__()
        self.backbone = TimmBackbone(spec.backbone, spec.taps)
        width = self.backbone.semantic_width
        self.fusion = mtdf.TokenFusion(spec, width)
        self.head = DptHead(spec.head, width=width, classes=classes)

    @property
    def spec(self) -> DenseSpec:
        """What the student is; its fusion may have been folded since it was made."""
        return self.fusion.spec

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Side of a patch in pixels."""
        return self.backbone.patch

    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """The backbone; to the decoder belongs what it fuses with."""
        return {"backbone": (self.backbone,), "decoder": (self.fusion, self.head)}

    def load_pretrained(self, weights: str) -> None:
        """Fill the backbone."""
        from co2s_cli.models import pretrained  # loads open_clip, which a model that is only run needs not

        pretrained.load_weights(self.backbone, self.spec.backbone.name, weights)

    def class_tensors(self) -> tuple[str, ...]:
        """The last layer of the head."""
        return self.head.class_tensors("head.")

    def band_tensors(self) -> tuple[str, ...]:
        """The filters of the patch embedding."""
        return (f"backbone.{self.backbone.first_weight}",)

    def deployed(self) -> DenseStudent:
        """The student with its way to its teachers folded."""
        if all(item.folded for item in self.spec.translators):
            return self
        lean = copy.deepcopy(self)
        lean.fusion = mtdf.folded(self.fusion)
        return lean

    def prepare(self, tile: int) -> None:
        """Attend by plain matrix products where that is quicker."""
        self.backbone.split_attention(tile)

    def encode(self, images: Tensor) -> DenseTaps:
        """Taps of `images`, padded at the right and at the bottom to whole patches."""
        whole = whole_patches(images, self.patch)
        first, second, third, last = self.backbone.maps(whole)
        again = [self._again(whole, last, grid).flatten(2).transpose(1, 2) for grid in self._grids()]
        native = torch.cat(again, dim=1) if again else last.new_empty(last.shape[0], 0, last.shape[1])
        return DenseTaps(first, second, third, last, native)

    def decode(self, taps: DenseTaps, size: Sequence[int]) -> Tensor:
        """Logits of `size` from the taps of images of `size`."""
        last = self.fusion(taps.last, taps.native) if self.spec.fuse and self.spec.translators else taps.last
        logits = self.head((taps.first, taps.second, taps.third, last))
        padded = [side * self.patch for side in taps.last.shape[-2:]]
        full = F.interpolate(logits, size=padded, mode="bilinear", align_corners=True)
        return full[..., : size[0], : size[1]]

    def translated(self, taps: DenseTaps) -> dict[str, Tensor]:
        """The last tokens in the space of each teacher, (B, tokens, the teacher's width), by the teacher's name."""
        return self.fusion.translated(taps.last, taps.native)

    def _grids(self) -> tuple[int, ...]:
        """Grids that a second pass is made for: a student that does not fuse needs them while it learns."""
        return self.spec.grids if self.spec.fuse or self.training else ()

    def _again(self, images: Tensor, last: Tensor, grid: int) -> Tensor:
        """The last tap at a teacher's own size, whatever the proportions of the images."""
        size = (grid * self.patch, grid * self.patch)
        if tuple(images.shape[-2:]) == size:
            return last
        return self.backbone.maps(resized(images, size), self.spec.taps[-1:])[0]


def whole_patches(images: Tensor, patch: int) -> Tensor:
    """`images` padded at the right and at the bottom, by repetition of the edge, to whole patches."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % patch, 0, -height % patch), mode="replicate")


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`images` at another size, as published: no antialias, proportions not kept. Student and teachers use it alike."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=True)
