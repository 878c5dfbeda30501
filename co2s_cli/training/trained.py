"""Trained models as frozen teachers: several model files whose class probabilities are fused into one."""

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


class TrainedTeachers:
    """All students of several models as one teacher. No nn.Module, so that no module that trains can own it."""

    def __init__(
        self, models: Sequence[Ensemble], combine: Literal["mean", "arbitrate"], scaling: ModelScaling | None = None
    ) -> None:
        """`scaling`: the one that brought the images to [0, 1]; None: they are scaled as each model expects."""
        self._models = [model.eval().requires_grad_(False) for model in models]
        self._fusion = _FUSIONS[combine]
        self._scaling = scaling

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each model file."""
        return [model.digest for model in self._models]

    @property
    def licences(self) -> list[str]:
        """Licence of the weights of each model; an empty text where the file names none."""
        return [model.manifest.licence for model in self._models]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Class probabilities (B, N, H, W): mean of all students, or at each pixel those of the most confident one."""
        members: dict[str, Tensor] = {}
        for index, model in enumerate(self._models):
            scaled = images if self._scaling is None else rescaled(images, self._scaling, model.manifest.scaling)
            members |= {f"{index}/{name}": probabilities for name, probabilities in model.members(scaled).items()}
        return fuse(members, self._fusion)


def teachers_of(
    paths: Sequence[Path], data: Dataset, combine: Literal["mean", "arbitrate"], device: torch.device
) -> TrainedTeachers:
    """The model files as one teacher for the images of this data.

    Raises:
        InputError, ModelError: a file is no model file, or its classes, bands or sample type are not the data's.
    """
    for path in paths:
        _check(path, weights.read_manifest(path), data)
    return TrainedTeachers([weights.load(path, device) for path in paths], combine, data.scaling)


def rescaled(images: Tensor, current: ModelScaling, target: ModelScaling) -> Tensor:
    """Images (B, C, H, W) that the scaling `current` brought to [0, 1], as the scaling `target` would have done."""
    if (current.low, current.high) == (target.low, target.high):
        return images
    applied = Scaling(target.low, target.high)
    low, high, target_low, gain, shift = (
        torch.tensor(values, device=images.device).view(1, -1, 1, 1)
        for values in (current.low, current.high, applied.low, applied.gain, applied.shift)
    )
    samples = images * (high - low) + low
    return ((samples - target_low) * gain + shift).clamp(0, 1)


def _check(path: Path, manifest: Manifest, data: Dataset) -> None:
    """Refuse a model whose classes, bands or sample type are not the data's; warn of another resolution."""
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
    trained, given = manifest.ground_resolution, data.ground_resolution
    if trained and given and not 1 / 2 < trained / given < 2:
        log.warning("%s: was trained at %g m a pixel, the data has %g m: it may teach poorly", path, trained, given)
