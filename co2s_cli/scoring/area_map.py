"""Maps of labelled areas by a model, made with the windows of `predict` or of the published validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.config.protocol import published_rules
from co2s_cli.data.roles import Area
from co2s_cli.errors import ModelError
from co2s_cli.geo.read.scaling import scaling_for
from co2s_cli.inference.model import DTYPES, pick_device, pick_precision
from co2s_cli.inference.names import CLASS, CONFIDENCE
from co2s_cli.inference.products import LandCover
from co2s_cli.inference.sliding import Sliding, published_stride, stride_of
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.scoring.counts import IDS
from co2s_cli.scoring.validation import area_probabilities
from co2s_cli.students import STUDENT_NAMES, Fusion


@dataclass(frozen=True, slots=True)
class AreaMap:
    """A model's map of an area; `IGNORE` where the image is not valid."""

    predicted: IDS
    """(h, w) class ids of the fused map."""
    confidence: IDS
    """(h, w) confidence of the fused map, as `predict` stores it."""
    students: Mapping[str, IDS]
    """(h, w) class ids of each student, by name."""


@dataclass(frozen=True, slots=True)
class AreaMapper:
    """A model with windows, fusion, device and precision to map areas with."""

    model: Ensemble
    sliding: Sliding
    fusion: Fusion
    device: torch.device
    dtype: torch.dtype

    @property
    def whole(self) -> bool:
        """Whether an area has to be mapped in one piece, because it is resized first."""
        return self.sliding.short_side is not None

    def make(self, area: Area) -> AreaMap:
        """The part of the scene's map inside an area."""
        manifest = self.model.manifest
        scaling = scaling_for(area.scene, "model", manifest.scaling)
        with area.scene.reader() as reader:
            valid = reader.valid(area.window)
        members = area_probabilities(self.model, area, scaling, self.sliding, device=self.device, dtype=self.dtype)
        product = LandCover(len(manifest.classes), self.fusion, wanted=(CONFIDENCE,))
        planes = product.decide(product.values({name: member[None] for name, member in members.items()})[0])

        def masked(plane: Tensor) -> IDS:
            return np.where(valid, plane.cpu().numpy(), IGNORE).astype(np.uint8)

        students = {name: masked(member.argmax(dim=0)) for name, member in members.items()}
        return AreaMap(masked(planes[CLASS][0]), masked(planes[CONFIDENCE][0]), students)


def mapper_for(settings: EvaluateConfig, model: Path) -> AreaMapper:
    """The mapper for a model file, with device, fusion and windows of the settings.

    Raises:
        ModelError: no model file, or one without the student that --fusion names.
    """
    manifest = weights.read_manifest(model)
    fusion = settings.fusion or manifest.fusion
    if fusion in STUDENT_NAMES and fusion not in manifest.students:
        students = ", ".join(manifest.students)
        raise ModelError(f"--fusion {fusion}: this model holds only {students}", hint="leave --fusion out")
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    ensemble = weights.load(model, device)
    return AreaMapper(ensemble, windows(settings, manifest), fusion, device, DTYPES[precision])


def windows(settings: EvaluateConfig, manifest: Manifest) -> Sliding:
    """The sliding window of `predict`, or of the published validation, of the model's size and overlap by default."""
    tile, overlap = manifest.window(settings.tile, settings.overlap)
    if settings.protocol != "published":
        return Sliding(tile, stride=stride_of(tile, overlap), batch=settings.batch)
    rules = published_rules(settings.published)
    return Sliding(
        tile,
        stride=published_stride(tile, rules["eval_overlap"]),
        blend=rules["eval_blend"],
        taper=rules["eval_taper"],
        short_side=rules["eval_resize"] or None,
        batch=settings.batch,
    )
