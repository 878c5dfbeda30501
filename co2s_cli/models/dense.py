"""The single dense student: a transformer, token fusion with what it learnt from its teachers, and a DPT head."""

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
    """Outputs of the encoder for an image batch: maps (B, width, h, w) of four blocks in rising order, and tokens."""

    first: Tensor
    second: Tensor
    third: Tensor
    last: Tensor
    grid_tokens: Tensor
    """Tokens (B, L, width) of second passes at teachers' grids, concatenated in the order of `DenseSpec.grids`; L = 0
    without second passes."""


class DenseStudent(Student):
    """The single dense student of RS-MTDF."""

    def __init__(self, spec: DenseSpec, classes: int) -> None:
        super().__init__()
        self.backbone = TimmBackbone(spec.backbone, spec.taps)
        width = self.backbone.semantic_width
        self.fusion = mtdf.TokenFusion(spec, width)
        self.head = DptHead(spec.head, width=width, classes=classes)

    @property
    def spec(self) -> DenseSpec:
        """The specification of the student; it changes when the fusion is folded."""
        return self.fusion.spec

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Side of a patch in pixels."""
        return self.backbone.patch

    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """Backbone and decoder; the token fusion belongs to the decoder."""
        return {"backbone": (self.backbone,), "decoder": (self.fusion, self.head)}

    def load_pretrained(self, weights: str) -> None:
        """Load the backbone's weights."""
        from co2s_cli.models import pretrained  # imports open_clip, which running a model does not need

        pretrained.load_weights(self.backbone, self.spec.backbone.name, weights)

    def class_tensors(self) -> tuple[str, ...]:
        """The last layer of the head."""
        return self.head.class_tensors("head.")

    def band_tensors(self) -> tuple[str, ...]:
        """The filters of the patch embedding."""
        return (f"backbone.{self.backbone.first_weight}",)

    def deployed(self) -> DenseStudent:
        """The student with its translators folded, see `mtdf.folded`."""
        if all(item.folded for item in self.spec.translators):
            return self
        lean = copy.deepcopy(self)
        lean.fusion = mtdf.folded(self.fusion)
        return lean

    def prepare(self, tile: int) -> None:
        """Compute attention by plain matrix products where that is faster."""
        self.backbone.split_attention(tile)

    def encode(self, images: Tensor) -> DenseTaps:
        """Taps of `images`, which are padded at the right and at the bottom to whole patches."""
        padded = whole_patches(images, self.patch)
        first, second, third, last = self.backbone.maps(padded)
        tokens = [self._second_pass(padded, last, grid).flatten(2).transpose(1, 2) for grid in self._grids()]
        grid_tokens = torch.cat(tokens, dim=1) if tokens else last.new_empty(last.shape[0], 0, last.shape[1])
        return DenseTaps(first, second, third, last, grid_tokens)

    def decode(self, taps: DenseTaps, size: Sequence[int]) -> Tensor:
        """Logits (B, N, *size) from the taps of images of this size."""
        last = self.fusion(taps.last, taps.grid_tokens) if self.spec.fuse and self.spec.translators else taps.last
        logits = self.head((taps.first, taps.second, taps.third, last))
        padded = [side * self.patch for side in taps.last.shape[-2:]]
        full = F.interpolate(logits, size=padded, mode="bilinear", align_corners=True)
        return full[..., : size[0], : size[1]]

    def translated(self, taps: DenseTaps) -> dict[str, Tensor]:
        """The last tokens translated into each teacher's feature space, (B, L, teacher's width), by teacher name."""
        return self.fusion.translated(taps.last, taps.grid_tokens)

    def _grids(self) -> tuple[int, ...]:
        """Grids that need a second pass; a student that does not fuse needs them only in training, for the loss."""
        return self.spec.grids if self.spec.fuse or self.training else ()

    def _second_pass(self, images: Tensor, last: Tensor, grid: int) -> Tensor:
        """The last map (B, width, grid, grid) for the images resized to `grid` × `grid` patches; `last` if they are."""
        size = (grid * self.patch, grid * self.patch)
        if tuple(images.shape[-2:]) == size:
            return last
        return self.backbone.maps(resized(images, size), self.spec.taps[-1:])[0]


def whole_patches(images: Tensor, patch: int) -> Tensor:
    """`images` padded at the right and at the bottom to whole patches, by repetition of the edge."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % patch, 0, -height % patch), mode="replicate")


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`images` resized as published: bilinear without antialias, proportions not kept. For student and teachers."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=True)
