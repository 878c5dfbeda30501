"""A few crops of what validates, to look at: image, labels, and what each student and all of them make of it."""

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
from co2s_cli.scoring.validation import FUSED, chances, pieces
from co2s_cli.tiling import Window, spans

COUNT = 3
"""Crops that are shown."""

_MOST_PIECES = 16
"""Pieces of the validation areas that are searched for them."""

_PRESENT = 0.02
"""Share of a crop from which on a class counts as present."""


@dataclass(frozen=True, slots=True)
class SampleView:
    """One crop."""

    image: NDArray[np.uint8]
    """(h, w, 3)"""
    labels: IDS
    predicted: Mapping[str, IDS]
    """(h, w) class ids by student; where there are several, of all together as `FUSED`. `IGNORE` without data."""

    def panels(self, colors: Sequence[Color]) -> dict[str, NDArray[np.uint8]]:
        """Pictures (h, w, 3) by name: image, labels, predictions; grey where there is no class."""
        table = np.full((256, 3), 128, np.uint8)
        table[: len(colors)] = colors
        ids = {"labels": self.labels, **self.predicted}
        return {"image": self.image, **{name: table[plane] for name, plane in ids.items()}}


def sample_areas(areas: Sequence[Area], side: int, *, whole: bool, count: int = COUNT) -> list[Area]:
    """Up to `count` crops of `side` pixels, those of most classes and labels first; `whole`: areas as they are."""
    parts = [part for area in areas for part in pieces(area, whole=whole)]
    step = -(-len(parts) // _MOST_PIECES) or 1
    ranked = []
    for part in parts[::step]:
        with part.labels.reader() as reader:
            labels = reader.read(part.window)
        window = part.window
        ranked += [
            (_richness(labels[crop.slices]), replace(part, window=_moved(crop, window)))
            for crop in ([Window(0, 0, window.height, window.width)] if whole else _crops(window, side))
        ]
    ranked.sort(key=lambda pair: pair[0], reverse=True)  # stable: of equal ones the first
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
    """Classes that are present, and labelled pixels."""
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
    """What a model makes of crops, by the windows of validation."""
    views = []
    for area in areas:
        with area.labels.reader() as labels, area.scene.reader() as reader:
            truth, patch = labels.read(area.window), reader.read(area.window)
        members = chances(ensemble, area, scaling, sliding, device=device, dtype=dtype)
        if len(members) > 1:
            members[FUSED] = fuse({name: part[None] for name, part in members.items()}, ensemble.manifest.fusion)[0]
        predicted = {
            name: np.where(patch.valid, part.argmax(dim=0).cpu().numpy(), IGNORE).astype(np.uint8)
            for name, part in members.items()
        }
        image = np.round(255 * stretched(area.scene, patch.pixels, patch.valid)).astype(np.uint8)
        views.append(SampleView(image, truth, predicted))
    return views
