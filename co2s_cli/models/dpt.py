"""The dense prediction head (DPT): four taps of a transformer → a pyramid of four scales → fusion → logits.

As released with RS-MTDF and UniMatch V2, without the first residual unit of the coarsest block, which is never used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models.manifest import HeadSpec


class DptHead(nn.Module):
    """Logits (B, N, 8h, 8w) from four taps, each (B, width, h, w), in the order of their blocks."""

    def __init__(self, spec: HeadSpec, *, width: int, classes: int) -> None:
        super().__init__()
        first, second, third, last = spec.widths
        features = spec.features
        self.project = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in spec.widths)
        self.rescale = nn.ModuleList((
            nn.ConvTranspose2d(first, first, 4, stride=4),
            nn.ConvTranspose2d(second, second, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(last, last, 3, stride=2, padding=1),
        ))  # fmt: skip
        self.lateral = nn.ModuleList(
            nn.Conv2d(channels, features, 3, padding=1, bias=False) for channels in (first, second, third, last)
        )
        self.blocks = nn.ModuleList(FusionBlock(features, lateral=index < len(spec.widths) - 1) for index in range(4))
        self.out = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, classes, 1)
        )

    def class_tensors(self, prefix: str) -> tuple[str, ...]:
        """Names of the tensors whose first axis is the class, each with `prefix` before it."""
        return f"{prefix}out.2.weight", f"{prefix}out.2.bias"

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """Logits (B, N, 8h, 8w)."""
        layers = [
            lateral(rescale(project(tap)))
            for tap, project, rescale, lateral in zip(taps, self.project, self.rescale, self.lateral, strict=True)
        ]
        sizes = [2 * side for side in layers[0].shape[-2:]], *(layer.shape[-2:] for layer in layers[:-1])
        fused: Tensor | None = None
        for layer, size, block in reversed(list(zip(layers, sizes, self.blocks, strict=True))):
            fused = block(layer, size) if fused is None else block(fused, size, layer)
        logits: Tensor = self.out(fused)
        return logits


class FusionBlock(nn.Module):
    """One step of the fusion from coarse to fine: add the finer layer, refine, enlarge."""

    def __init__(self, features: int, *, lateral: bool) -> None:
        super().__init__()
        self.enter = ResidualUnit(features) if lateral else None
        self.refine = ResidualUnit(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, coarse: Tensor, size: Sequence[int], layer: Tensor | None = None) -> Tensor:
        """`coarse` plus the residual unit of `layer` (of the same size) if given, refined and enlarged to `size`."""
        if layer is not None:
            assert self.enter is not None
            coarse = coarse + self.enter(layer)
        # the released head enlarges first. Both steps are linear and the weights of the resize sum to 1: the order only
        # changes rounding, and this one convolves a quarter of the pixels
        return F.interpolate(self.out(self.refine(coarse)), size=tuple(size), mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """A residual unit of two 3 × 3 convolutions, activation first."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))  # type: ignore[no-any-return]
