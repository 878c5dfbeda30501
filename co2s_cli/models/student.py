"""The common interface of all students; the kinds are `guided`, `dense` and `local`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

TrainedPart = Literal["attention", "all"]
"""Which parameters of a backbone train: only its attention layers, as published, or all."""


class Student(nn.Module):
    """A segmentation network: logits (B, N, H, W) for images (B, C, H, W) in [0, 1] of any size."""

    spec: Any
    """The specification in the manifest, from which the student can be rebuilt."""
    patch: int
    """Side in pixels of the area that one position of the coarsest feature map covers."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, N, H, W) for images (B, C, H, W)."""
        if images.ndim != 4:
            raise ValueError(f"images are (B, C, H, W), got {tuple(images.shape)}")
        return self.decode(self.encode(images), images.shape[-2:])

    def encode(self, images: Tensor) -> Any:
        """Feature maps of `images` as a named tuple of tensors whose first axis is the batch."""
        raise NotImplementedError

    def decode(self, taps: Any, size: Sequence[int]) -> Tensor:
        """Logits (B, N, *size) from the feature maps of images of this `size` (height, width)."""
        raise NotImplementedError

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each feature map of `encode`, some of which the feature perturbation drops."""
        raise NotImplementedError

    @property
    def dropout(self) -> float:
        """Share of the channels of each feature map that training drops in the labelled and strong views."""
        return 0.0

    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """Modules by the learning rate that they train at: `backbone`, `queries` or `decoder`."""
        raise NotImplementedError

    def train_backbone(self, part: TrainedPart) -> None:
        """Choose which parameters of the backbone train; the others are frozen."""
        for module in self.parts().get("backbone", ()):
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(part == "all" or "attn" in name)

    def load_pretrained(self, weights: str) -> None:
        """Load the backbone's weights from a pretrained tag or a file; `none` keeps the random ones."""
        raise NotImplementedError

    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors whose first axis is the class."""
        raise NotImplementedError

    def band_tensors(self) -> tuple[str, ...]:
        """Names of the convolution weights whose second axis is the band."""
        raise NotImplementedError

    def deployed(self) -> Student:
        """A student with the same outputs, without layers that only training needs; itself where it has none."""
        return self

    def prepare(self, tile: int) -> None:
        """Choose the fastest implementation on a CPU in bfloat16 for images of `tile` × `tile` pixels."""

    def translated(self, taps: Any) -> dict[str, Tensor]:
        """The last tokens translated into the feature space of each frozen teacher, by its name; empty without any."""
        del taps
        return {}
