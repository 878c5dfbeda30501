"""The students of the Co2S paper: a transformer backbone, class vectors as guidance, and the guided decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models import backbone
from co2s_cli.models.decoder import POOL, GuidedDecoder
from co2s_cli.models.guidance import Guidance
from co2s_cli.models.manifest import GuidedSpec
from co2s_cli.models.student import Student
from co2s_cli.models.taps import Taps


class GuidedStudent(Student):
    """The `clip` student with explicit class vectors, or the `dino` student with implicit ones."""

    def __init__(self, spec: GuidedSpec, classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone.build(spec.backbone, spec.taps)
        self.guidance = Guidance(spec.guidance, classes, spec.guidance_width)
        self.decoder = GuidedDecoder(
            spec.decoder, skip_width=self.backbone.skip_width, guidance_width=spec.guidance_width
        )
        self.train_backbone("attention")

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Side of a patch in pixels."""
        return self.backbone.patch

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the shallow, the deep and the semantic map."""
        return self.backbone.skip_width, self.backbone.skip_width, self.backbone.semantic_width

    def encode(self, images: Tensor) -> Taps:
        """Taps of `images`, which are padded at the right and at the bottom to whole patches."""
        taps: Taps = self.backbone(F.pad(images, self._padding(images.shape[-2:]), mode="replicate"))
        return taps

    def decode(self, taps: Taps, size: Sequence[int]) -> Tensor:
        """Logits (B, N, *size) from the taps of images of this size."""
        logits = self.decoder(taps, self.guidance())
        _, right, _, bottom = self._padding(size)
        padded = (size[0] + bottom, size[1] + right)
        full = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
        return full[..., : size[0], : size[1]]

    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """Backbone, class vectors and decoder."""
        return {"backbone": (self.backbone,), "queries": (self.guidance,), "decoder": (self.decoder,)}

    def load_pretrained(self, weights: str) -> None:
        """Load the backbone's weights."""
        from co2s_cli.models import pretrained  # imports open_clip, which running a model does not need

        pretrained.load_weights(self.backbone, self.spec.backbone.name, weights)

    def class_tensors(self) -> tuple[str, ...]:
        """The class vectors."""
        return ("guidance.vectors",)

    def band_tensors(self) -> tuple[str, ...]:
        """The filters of the patch embedding."""
        return (f"backbone.{self.backbone.first_weight}",)

    def prepare(self, tile: int) -> None:
        """Compute attention by plain matrix products where that is faster."""
        self.backbone.split_attention(tile)

    def _padding(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Pixels to add at left, right, top, bottom, for whole patches and at least one pooling cell of the decoder."""
        height, width = (max(-(-side // self.patch), POOL) * self.patch for side in size)
        return 0, width - size[1], 0, height - size[0]
