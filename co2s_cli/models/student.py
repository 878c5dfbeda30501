"""What every kind of student answers for itself; the kinds are `guided`, `dense` and `local`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

TrainedPart = Literal["attention", "all"]
"""What of a backbone trains: its attention alone, as published, or everything."""


class Student(nn.Module):
    """Logits (B, N, H, W) for images (B, C, H, W) in [0, 1] of any size."""

    spec: Any
    """What rebuilds the student: its part of the manifest."""
    patch: int
    """Side in pixels of what one position of the coarsest map covers."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the resolution of `images`."""
        if images.ndim != 4:
            raise ValueError(f"images are (B, C, H, W), got {tuple(images.shape)}")
        return self.decode(self.encode(images), images.shape[-2:])

    def encode(self, images: Tensor) -> Any:
        """Feature maps of `images` as a named tuple of tensors whose first axis is the batch."""
        raise NotImplementedError

    def decode(self, taps: Any, size: Sequence[int]) -> Tensor:
        """Logits of `size` from the feature maps of images of `size`."""
        raise NotImplementedError

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each map that `encode` gives; what feature perturbation drops some of."""
        raise NotImplementedError

    @property
    def dropout(self) -> float:
        """Share of the channels of each map that training drops in labelled and in strong views."""
        return 0.0

    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """Modules by the learning rate they train at: `backbone`, `queries` or `decoder`."""
        raise NotImplementedError

    def train_backbone(self, part: TrainedPart) -> None:
        """Choose what of the backbone trains."""
        for module in self.parts().get("backbone", ()):
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(part == "all" or "attn" in name)

    def load_pretrained(self, weights: str) -> None:
        """Fill the backbone from a pretrained tag, a file, or leave it as drawn (`none`)."""
        raise NotImplementedError

    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors whose first axis is the classes."""
        raise NotImplementedError

    def band_tensors(self) -> tuple[str, ...]:
        """Names of the convolutions' weights whose second axis is the bands."""
        raise NotImplementedError

    def deployed(self) -> Student:
        """The same function without what only training needs; the student itself where there is nothing of the kind."""
        return self

    def prepare(self, tile: int) -> None:
        """Choose what is quickest on a CPU in bfloat16 for images of `tile` pixels."""

    def translated(self, taps: Any) -> dict[str, Tensor]:
        """The last tokens in the space of each frozen teacher, by its name; empty for a student without teachers."""
        del taps
        return {}
