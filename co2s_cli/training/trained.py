"""Trained models as teachers: several model files, frozen, as one voice about images of the data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.data.dataset import Dataset
from co2s_cli.errors import ModelError
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble, fuse
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.students import Fusion

log = logging.getLogger(__name__)

_FUSIONS: dict[Literal["mean", "arbitrate"], Fusion] = {"mean": "mean", "arbitrate": "confident"}


class Trained:
    """All students of some models as one teacher. Not a module: nothing that trains can hold it by accident."""

    def __init__(
        self, pairs: Sequence[Ensemble], combine: Literal["mean", "arbitrate"], scaling: ModelScaling | None = None
    ) -> None:
        """Teachers of images that `scaling` has brought to [0, 1]; None: as each of them wants it."""
        self._pairs = [pair.eval().requires_grad_(False) for pair in pairs]
        self._fusion = _FUSIONS[combine]
        self._scaling = scaling

    @property
    def digests(self) -> list[str]:
        """What tells these teachers from others, one text for each model."""
        return [pair.digest for pair in self._pairs]

    @property
    def licences(self) -> list[str]:
        """Those of their weights, one text for each model; empty where a model says nothing."""
        return [pair.manifest.licence for pair in self._pairs]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Class probabilities (B, N, H, W): the mean of all students, or of each pixel the surer one."""
        members: dict[str, Tensor] = {}
        for index, pair in enumerate(self._pairs):
            seen = images if self._scaling is None else rescaled(images, self._scaling, pair.manifest.scaling)
            members |= {f"{index}/{name}": part for name, part in pair.members(seen).items()}
        return fuse(members, self._fusion)


def teachers_of(
    paths: Sequence[Path], data: Dataset, combine: Literal["mean", "arbitrate"], device: torch.device
) -> Trained:
    """The model files as a teacher about this data.

    Raises:
        InputError, ModelError: a file that is none, or whose classes, bands or sample type are not the data's.
    """
    for path in paths:
        _check(path, weights.read_manifest(path), data)
    return Trained([weights.load(path, device) for path in paths], combine, data.scaling)


def rescaled(images: Tensor, found: ModelScaling, wanted: ModelScaling) -> Tensor:
    """Images (B, C, H, W) that `found` has brought to [0, 1] as `wanted` would have brought them there."""
    if (found.low, found.high) == (wanted.low, wanted.high):
        return images
    applied = Scaling(wanted.low, wanted.high)
    low, high, first, gain, shift = (
        torch.tensor(values, device=images.device).view(1, -1, 1, 1)
        for values in (found.low, found.high, applied.low, applied.gain, applied.shift)
    )
    numbers = images * (high - low) + low
    return ((numbers - first) * gain + shift).clamp(0, 1)


def _check(path: Path, manifest: Manifest, data: Dataset) -> None:
    names = manifest.class_map.names
    if names != data.classes.names:
        found, wanted = ", ".join(names), ", ".join(data.classes.names)
        raise ModelError(
            f"{path}: its classes are {found}; the data's are {wanted}",
            hint="a teacher must have been trained on the data's classes, in their order",
        )
    if manifest.bands != data.bands:
        raise ModelError(f"{path}: sees {', '.join(manifest.bands)}; the data's bands are {', '.join(data.bands)}")
    if manifest.scaling.dtype != data.scaling.dtype:
        raise ModelError(f"{path}: wants {manifest.scaling.dtype} samples, the data's are {data.scaling.dtype}")
    seen, here = manifest.ground_resolution, data.ground_resolution
    if seen and here and not 1 / 2 < seen / here < 2:
        log.warning("%s: was trained at %g m a pixel, the data has %g m: a poor teacher here", path, seen, here)
