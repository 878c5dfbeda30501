"""What a draft asks of a file of labels, of whichever kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from co2s_cli.data.draft.classes import LabelClasses
from co2s_cli.data.sources import Source
from co2s_cli.errors import InputError
from co2s_cli.geo.read.scene import Scene


class LabelFile(Protocol):
    """A file of labels to draft a data.yaml from."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def classes(self) -> LabelClasses:
        """The classes that it labels."""

    @property
    def attribute(self) -> str | None:
        """Attribute that holds the class; None for a raster."""

    @property
    def noun(self) -> str:
        """What its labels are called: "polygons", "points", "polygons and points", or `RASTER_NOUN`."""

    def on(self, scene: Scene) -> tuple[bool, int | None]:
        """Whether it labels a scene, and number of polygons and points on it; None for a raster."""

    def lies_elsewhere(self, scenes: Sequence[Scene]) -> InputError:
        """The error if it labels none of the scenes."""

    def polygons_by_class(self, sources: Sequence[Source]) -> list[int] | None:
        """Number of polygons of each class that label `sources`; None for a raster."""

    def remarks(self, scenes: Sequence[Scene], polygons: Sequence[int | None], sources: Sequence[Source]) -> list[str]:
        """Remarks that stop nothing.

        Args:
            scenes: all scenes.
            polygons: number of polygons and points on each.
            sources: the scenes that it labels, with their labels.

        Raises:
            InputError: its labels contradict each other.
        """
