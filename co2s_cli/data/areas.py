"""The labelled areas of a data.yaml: those that validate, or those that train."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from co2s_cli.config.data import DataConfig
from co2s_cli.data.dataset import assemble
from co2s_cli.data.roles import Area
from co2s_cli.data.samples import View
from co2s_cli.data.sources import Source, labeled_sources, with_bands
from co2s_cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Areas:
    """Parts of scenes whose labels are the truth."""

    areas: tuple[Area, ...]
    digest: str | None
    """Of areas that were drawn; None where data.yaml names them."""


def digest_of(areas: Iterable[Area]) -> str:
    """Tells areas from others of the same or other images; a folder of data may move, and its labels be corrected."""
    facts = sorted(f"{Path(area.scene.source).name} {area.scene.grid.shape} {area.window}" for area in areas)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def areas_of(
    data: DataConfig, split: Literal["val", "labeled"], *, crop: int, seed: int, ratio: float | None = None
) -> Areas:
    """The areas of one part of a data.yaml.

    `crop`, `seed` and `ratio`, the share of the images that kept their labels, are those of the run where a share of
    the labels was drawn to validate with.

    Raises:
        InputError: unreadable or unfit images and labels.
    """
    entries = data.labeled if split == "labeled" else data.val
    if isinstance(entries, float):
        drawn = _drawn(data, View(crop, (1.0, 1.0), "own"), seed, ratio)
        return Areas(drawn, digest_of(drawn))
    sources = labeled_sources(entries, data.class_map, with_bands(data).bands)
    return Areas(tuple(area for source in sources for area in _areas(source)), None)


def _drawn(data: DataConfig, view: View, seed: int, ratio: float | None) -> tuple[Area, ...]:
    """The share of the labels that validates; what has no labels is no part of the draw, and is not opened."""
    try:
        return assemble(data, view=view, seed=seed, ratio=ratio, with_unlabeled=False).val
    except InputError:
        if ratio is None:
            raise
        return _drawn(data, view, seed, None)  # other data than the run's, with too few images for its ratio


def _areas(source: Source) -> list[Area]:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    return [Area(source.scene, source.labels, window) for window in source.areas]
