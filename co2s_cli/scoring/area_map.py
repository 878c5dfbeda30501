"""A model made ready to map labelled areas, as validation and predict do."""

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
from co2s_cli.scoring.counts import IDS
from co2s_cli.scoring.validation import chances
from co2s_cli.students import STUDENT_NAMES, Fusion


@dataclass(frozen=True, slots=True)
class AreaMap:
    """What a model says of an area; `IGNORE` where the image is not valid."""

    predicted: IDS
    """(h, w) class ids of the fused map."""
    sure: IDS
    """(h, w) its confidence, as predict stores it."""
    students: Mapping[str, IDS]
    """(h, w) class ids of each student alone."""


@dataclass(frozen=True, slots=True)
class AreaMapper:
    """A model, and how it is run."""

    pair: Ensemble
    sliding: Sliding
    fusion: Fusion
    device: torch.device
    dtype: torch.dtype

    @property
    def whole(self) -> bool:
        """Whether an area has to be seen in one piece, because it is resized."""
        return self.sliding.short_side is not None

    def make(self, area: Area) -> AreaMap:
        """The part of the scene's map that is an area."""
        manifest = self.pair.manifest
        scaling = scaling_for(area.scene, "model", manifest.scaling)
        with area.scene.reader() as reader:
            valid = reader.valid(area.window)
        members = chances(self.pair, area, scaling, self.sliding, device=self.device, dtype=self.dtype)
        product = LandCover(len(manifest.classes), self.fusion, wanted=(CONFIDENCE,))
        planes = product.decide(product.values({name: chance[None] for name, chance in members.items()})[0])

        def known(plane: Tensor) -> IDS:
            return np.where(valid, plane.cpu().numpy(), IGNORE).astype(np.uint8)

        alone = {name: known(chance.argmax(dim=0)) for name, chance in members.items()}
        return AreaMap(known(planes[CLASS][0]), known(planes[CONFIDENCE][0]), alone)


def mapper_for(settings: EvaluateConfig, model: Path) -> AreaMapper:
    """The model in a file, on its device, with the windows that the settings want.

    Raises:
        ModelError: not a model, or one without the student that is asked for.
    """
    manifest = weights.read_manifest(model)
    fusion = settings.fusion or manifest.fusion
    if fusion in STUDENT_NAMES and fusion not in manifest.students:
        held = ", ".join(manifest.students)
        raise ModelError(f"--fusion {fusion}: this model holds only {held}", hint="leave --fusion out")
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    pair = weights.load(model, device)
    return AreaMapper(pair, windows(settings, manifest.tile), fusion, device, DTYPES[precision])


def windows(settings: EvaluateConfig, own: int) -> Sliding:
    """How areas are cut and blended, for a model made for windows of `own` pixels: predict's way, or the published."""
    tile = settings.tile or own
    if settings.protocol != "published":
        return Sliding(tile, stride=stride_of(tile, settings.overlap), batch=settings.batch)
    rules = published_rules(settings.published)
    return Sliding(
        tile,
        stride=published_stride(tile, rules["eval_overlap"]),
        blend=rules["eval_blend"],
        taper=rules["eval_taper"],
        short_side=rules["eval_resize"] or None,
        batch=settings.batch,
    )
