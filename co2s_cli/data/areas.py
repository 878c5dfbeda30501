"""The labelled areas of a data.yaml that a model is scored on: those for validation, or those for training."""

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
    """Digest of areas that were drawn at random; None if data.yaml names the areas."""


def digest_of(areas: Iterable[Area]) -> str:
    """SHA-256 of the areas' image names, image shapes and windows.

    It does not depend on the folder of the images, nor on the labels.
    """
    facts = sorted(f"{Path(area.scene.source).name} {area.scene.grid.shape} {area.window}" for area in areas)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def areas_of(
    data: DataConfig, split: Literal["val", "labeled"], *, crop: int, seed: int, ratio: float | None = None
) -> Areas:
    """The areas of one split of a data.yaml.

    Args:
        data: the data.yaml.
        split: validation or training labels.
        crop: side of the training crops; like `seed` and `ratio` only used if validation is a share of the labels, and
            then that of the run, so that the same areas are drawn as by the run.
        seed: seed of the run.
        ratio: share of the labelled images that kept their labels in the run.

    Raises:
        InputError: unreadable or unfit images and labels.
    """
    data = with_bands(data)
    entries = data.labeled if split == "labeled" else data.val
    if isinstance(entries, float):
        val_areas = _drawn_areas(data, View(crop, (1.0, 1.0), "own"), seed, ratio)
        return Areas(val_areas, digest_of(val_areas))
    sources = labeled_sources(entries, data.class_map, data.band_names)
    return Areas(tuple(area for source in sources for area in _source_areas(source)), None)


def _drawn_areas(data: DataConfig, view: View, seed: int, ratio: float | None) -> tuple[Area, ...]:
    """The areas drawn for validation; unlabelled images do not change the draw and are not opened."""
    try:
        return assemble(data, view=view, seed=seed, ratio=ratio, with_unlabeled=False).val
    except InputError:
        if ratio is None:
            raise
        # data.yaml is not that of the run, and has too few images for its ratio
        return _drawn_areas(data, view, seed, None)


def _source_areas(source: Source) -> list[Area]:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    return [Area(source.scene, source.labels, window) for window in source.areas]
