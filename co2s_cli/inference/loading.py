"""A model file made ready to run: on its device, in its precision, with its views, compiled if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from co2s_cli.config.mapping import MapConfig
from co2s_cli.config.predict import PredictConfig
from co2s_cli.errors import ModelError
from co2s_cli.inference.precision import Precision, lower
from co2s_cli.inference.products import CONFIDENCE, DISAGREEMENT, PROBABILITIES, LandCover
from co2s_cli.inference.views import Members, averaged
from co2s_cli.models import weights
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that runs."""

    manifest: Manifest
    digest: str
    members: Members
    device: torch.device
    precision: Precision


def load_model(path: Path, settings: MapConfig, device: torch.device, precision: Precision) -> Loaded:
    """Read a model file and make it ready as the settings say."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    pair = weights.load(path, device)
    pair.requires_grad_(False)
    lower(pair, precision)
    if precision == "bf16" and device.type == "cpu":
        for module in pair.modules():
            if isinstance(module, TimmBackbone):
                module.split_attention(settings.tile or pair.manifest.tile)
    members: Any = pair.members
    if settings.compile:
        members = torch.compile(members, dynamic=False)
    return Loaded(pair.manifest, pair.digest, averaged(members, settings.tta), device, precision)


def product_of(settings: PredictConfig, manifest: Manifest) -> LandCover:
    """What the settings want to be made of a model's probabilities; refused where the model has not what it takes."""
    fusion = settings.fusion or manifest.fusion
    held = ", ".join(manifest.students)
    if fusion in ("clip", "dino") and fusion not in manifest.students:
        raise ModelError(f"--fusion {fusion}: this model holds only {held}", hint="leave --fusion out")
    if settings.disagreement and len(manifest.students) < 2:
        raise ModelError(f"--disagreement wants two students, this model holds only {held}")
    wanted = tuple(name for name in (CONFIDENCE, PROBABILITIES, DISAGREEMENT) if getattr(settings, name))
    return LandCover(
        classes=len(manifest.classes),
        fusion=fusion,
        min_confidence=settings.min_confidence,
        wanted=wanted,
        probabilities=settings.probability_type,
    )
