"""The labelled areas of a data.yaml: those that validate, or those that train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from co2s_cli.config.data import DataConfig
from co2s_cli.data.dataset import Area, assemble
from co2s_cli.data.samples import View
from co2s_cli.data.sources import Source, labeled_sources


@dataclass(frozen=True, slots=True)
class Areas:
    """Parts of scenes whose labels are the truth."""

    areas: tuple[Area, ...]
    digest: str | None
    """Of the data from which the areas were drawn; None where data.yaml names them."""


def areas_of(data: DataConfig, split: Literal["val", "labeled"], *, crop: int, seed: int) -> Areas:
    """The areas of one part of a data.yaml.

    `crop` and `seed` are those of the run where a share of the labels was drawn to validate with.

    Raises:
        InputError: unreadable or unfit images and labels.
    """
    entries = data.labeled if split == "labeled" else data.val
    if isinstance(entries, float):
        drawn = assemble(data, view=View(crop, (1.0, 1.0), "own"), seed=seed, with_unlabeled=bool(data.unlabeled))
        return Areas(drawn.val, drawn.digest)
    sources = labeled_sources(entries, data.class_map, data.bands)
    return Areas(tuple(area for source in sources for area in _areas(source)), None)


def _areas(source: Source) -> list[Area]:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    return [Area(source.scene, source.labels, window) for window in source.areas]
