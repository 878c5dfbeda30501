"""Foundation models as frozen teachers, by name; each has its own input size and statistics. No model includes them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.errors import ConfigError
from co2s_cli.models import catalog, pretrained
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.clip_tower import ClipBackbone
from co2s_cli.models.clip_training import NONE
from co2s_cli.models.dense import resized, whole_patches
from co2s_cli.models.manifest import IMAGENET, BackboneSpec, TranslatorSpec

Statistics = Literal["own", "imagenet"]
"""Mean and std for teachers' input: `own`, those each was trained with, or `imagenet` for all, as published."""


class Teacher:
    """A frozen transformer that gives tokens for images in [0, 1].

    No nn.Module, so that it cannot become part of a model that trains, of a mean of weights or of a state by mistake.
    """

    def __init__(self, name: str, backbone: ClipBackbone | TimmBackbone, *, patch: int) -> None:
        self.name = name
        """Architecture and weights; of a weights file only its name."""
        self._backbone = backbone.eval().requires_grad_(False)
        self._patch = patch

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self._backbone.skip_width

    @property
    def own_grid(self) -> int | None:
        """Rows (and columns) of its token grid, if it resizes every image to its own size; None if it keeps sizes."""
        return self._backbone.visual.grid_size[0] if isinstance(self._backbone, ClipBackbone) else None

    def grid(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of the token grid for images of `size` (height, width)."""
        if self.own_grid is not None:
            return self.own_grid, self.own_grid
        return -(-size[0] // self._patch), -(-size[1] // self._patch)

    def translator(self, hidden: int = 1024) -> TranslatorSpec:
        """Specification of the student's translator to the tokens of this teacher."""
        return TranslatorSpec(teacher=self.name, width=self.width, hidden=hidden, grid=self.own_grid)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens (B, rows · columns, width), float32, for images (B, C, H, W)."""
        padded = whole_patches(images, self._patch)
        rows, cols = self.grid(tuple(padded.shape[-2:]))
        resized_images = resized(padded, (rows * self._backbone.patch, cols * self._backbone.patch))
        if isinstance(self._backbone, ClipBackbone):
            return self._backbone.tokens(resized_images).float()
        return self._backbone.maps(resized_images)[0].flatten(2).transpose(1, 2).float()

    def to(self, device: torch.device) -> Teacher:
        """Move this teacher to `device`; returns itself."""
        self._backbone.to(device)
        return self


def foundation(name: str, *, patch: int, statistics: Statistics = "own", bands: Sequence[str] = catalog.RGB) -> Teacher:
    """The teacher `NAME.TAG` or `NAME:WEIGHTS`, on the CPU, for a student with patches of `patch` pixels.

    NAME is a DINOv2 or DINOv3 of timm, else an image tower of open_clip; WEIGHTS is a pretrained tag, a file or `none`.
    Without weights it is initialised with a seed from its name, the same in every run and on every rank.

    Raises:
        ConfigError: neither library has such a transformer, or `name` does not tell its weights.
        ModelError: the weights cannot be fetched, or do not fit.
        InputError: there is no such weights file.
    """
    architecture, weights = _parsed(name)
    dino = "dino" in architecture
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(architecture.encode()))
        backbone = _dino(architecture, statistics, bands) if dino else _clip(architecture, weights, statistics, bands)
    pretrained.load_weights(backbone, architecture, weights)
    short_name = f"{architecture.partition('.')[0]}:{Path(weights).name}"
    return Teacher(short_name, backbone, patch=patch)


def _parsed(name: str) -> tuple[str, str]:
    """Architecture and weights in the name of a teacher.

    Raises:
        ConfigError: the name does not tell the weights, or is that of an existing file.
    """
    if Path(name).exists():
        raise ConfigError(f"teacher {name}: is no model file", hint="a run's model is its best.safetensors")
    architecture, colon, weights = name.partition(":")
    if not colon:
        tiny = architecture in (catalog.TINY_CLIP, catalog.TINY_DINO)
        weights = NONE if tiny else architecture.partition(".")[2]
    if not weights:
        raise ConfigError(
            f"teacher {name}: its weights are not named",
            hint="for example vit_base_patch14_dinov2.lvd142m, ViT-L-14-quickgelu:openai, NAME:FILE or NAME:none",
        )
    return architecture, weights


def _dino(architecture: str, statistics: Statistics, bands: Sequence[str]) -> TimmBackbone:
    spec = catalog.for_bands(catalog.dense_student(architecture), bands)
    return TimmBackbone(_with_statistics(spec.backbone, statistics), spec.taps[-1:])


def _clip(architecture: str, weights: str, statistics: Statistics, bands: Sequence[str]) -> ClipBackbone:
    spec = catalog.for_bands(catalog.clip_student(architecture, weights), bands)
    return ClipBackbone(_with_statistics(spec.backbone, statistics), spec.taps)


def _with_statistics(spec: BackboneSpec, statistics: Statistics) -> BackboneSpec:
    if statistics == "own":
        return spec
    return spec.model_copy(update={key: tuple(values[c] for c in spec.rgb) for key, values in IMAGENET.items()})
