"""A few validation crops to look at: image, labels, and the predictions of each student and of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, Color
from co2s_cli.data.roles import Area
from co2s_cli.geo.read.picture import stretched
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.inference.sliding import Sliding
from co2s_cli.models.ensemble import Ensemble, fuse
from co2s_cli.scoring.counts import IDS
from co2s_cli.scoring.validation import FUSED, area_parts, area_probabilities
from co2s_cli.tiling import Window, spans

COUNT = 3
"""Number of crops that are shown."""

_MOST_PARTS = 16
"""Largest number of parts of the validation areas that are searched for crops."""

_PRESENT = 0.02
"""A class counts as present in a crop if it covers more than this share of it."""


@dataclass(frozen=True, slots=True)
class SampleView:
    """A validation crop with labels and predictions."""

    image: NDArray[np.uint8]
    """(h, w, 3), RGB."""
    labels: IDS
    """(h, w) class ids; `IGNORE` where unlabelled."""
    predicted: Mapping[str, IDS]
    """(h, w) class ids by student, and of several students fused as `FUSED`; `IGNORE` where the image has no data."""

    def panels(self, colors: Sequence[Color]) -> dict[str, NDArray[np.uint8]]:
        """Pictures (h, w, 3) by title: image, labels, predictions; grey where there is no class."""
        table = np.full((256, 3), 128, np.uint8)
        table[: len(colors)] = colors
        ids = {"labels": self.labels, **self.predicted}
        return {"image": self.image, **{name: table[plane] for name, plane in ids.items()}}


def sample_areas(areas: Sequence[Area], side: int, *, whole: bool, count: int = COUNT) -> list[Area]:
    """Up to `count` crops of `side` pixels, those with most classes, then most labels first; `whole`: uncut areas."""
    parts = [part for area in areas for part in area_parts(area, whole=whole)]
    step = -(-len(parts) // _MOST_PARTS) or 1
    ranked = []
    for part in parts[::step]:
        with part.labels.reader() as reader:
            labels = reader.read(part.window)
        window = part.window
        ranked += [
            (_richness(labels[crop.slices]), replace(part, window=_moved(crop, window)))
            for crop in ([Window(0, 0, window.height, window.width)] if whole else _crops(window, side))
        ]
    ranked.sort(key=lambda pair: pair[0], reverse=True)  # stable: of equally rich crops the first stays first
    return [area for richness, area in ranked[:count] if richness[1]]


def _crops(window: Window, side: int) -> list[Window]:
    return [
        Window(top, left, bottom - top, right - left)
        for top, bottom in spans(window.height, side)
        for left, right in spans(window.width, side)
    ]


def _moved(crop: Window, window: Window) -> Window:
    return Window(window.row + crop.row, window.col + crop.col, crop.height, crop.width)


def _richness(labels: IDS) -> tuple[int, int]:
    """Number of classes present, and number of labelled pixels."""
    counts = np.bincount(labels.ravel(), minlength=256)[:IGNORE]
    return int((counts > _PRESENT * labels.size).sum()), int(counts.sum())


@torch.no_grad()
def sample_views(
    ensemble: Ensemble,
    areas: Sequence[Area],
    scaling: Scaling,
    sliding: Sliding,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> list[SampleView]:
    """The crops `areas` with a model's predictions, made with the windows of validation."""
    views = []
    for area in areas:
        with area.labels.reader() as labels, area.scene.reader() as reader:
            truth, patch = labels.read(area.window), reader.read(area.window)
        members = area_probabilities(ensemble, area, scaling, sliding, device=device, dtype=dtype)
        if len(members) > 1:
            members[FUSED] = fuse({name: member[None] for name, member in members.items()}, ensemble.manifest.fusion)[0]
        predicted = {
            name: np.where(patch.valid, member.argmax(dim=0).cpu().numpy(), IGNORE).astype(np.uint8)
            for name, member in members.items()
        }
        image = np.round(255 * stretched(area.scene, patch)).astype(np.uint8)
        views.append(SampleView(image, truth, predicted))
    return views
