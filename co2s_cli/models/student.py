"""One student: backbone + guidance + decoder → logits."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models import backbone
from co2s_cli.models.decoder import POOL, GuidedDecoder
from co2s_cli.models.guidance import Guidance
from co2s_cli.models.manifest import StudentSpec
from co2s_cli.models.taps import Taps


class Student(nn.Module):
    """Logits (B, N, H, W) for images (B, C, H, W) in [0, 1] of any size."""

    def __init__(self, spec: StudentSpec, classes: int) -> None:
        super().__init__()
        self.backbone = backbone.build(spec.backbone, spec.taps)
        self.guidance = Guidance(spec.guidance, classes, spec.guidance_width)
        self.decoder = GuidedDecoder(
            spec.decoder, skip_width=self.backbone.skip_width, guidance_width=spec.guidance_width
        )
        self.train_backbone("attention")

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the resolution of `images`."""
        if images.ndim != 4:
            raise ValueError(f"images are (B, C, H, W), got {tuple(images.shape)}")
        return self.decode(self.encode(images), images.shape[-2:])

    def encode(self, images: Tensor) -> Taps:
        """Taps of `images`, padded at the right and at the bottom to whole patches."""
        taps: Taps = self.backbone(F.pad(images, self._padding(images.shape[-2:]), mode="replicate"))
        return taps

    def decode(self, taps: Taps, size: tuple[int, ...]) -> Tensor:
        """Logits of `size` from the taps of images of `size`."""
        logits = self.decoder(taps, self.guidance())
        _, right, _, bottom = self._padding(size)
        padded = (size[0] + bottom, size[1] + right)
        full = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
        return full[..., : size[0], : size[1]]

    def train_backbone(self, part: Literal["attention", "all"]) -> None:
        """Choose what of the backbone trains: its attention alone (as published), or everything."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(part == "all" or "attn" in name)

    def _padding(self, size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Pixels to add left, right, top, bottom: whole patches, and enough of them for one pooling cell."""
        patch = self.backbone.patch
        height, width = (max(-(-side // patch), POOL) * patch for side in size)
        return 0, width - size[1], 0, height - size[0]
