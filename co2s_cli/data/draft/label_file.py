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

    def polygons_on(self, scene: Scene) -> int | None:
        """Number of polygons and points on a scene; None for a raster."""

    def covers(self, scene: Scene) -> bool:
        """Whether it labels a scene."""

    def lies_elsewhere(self, scenes: Sequence[Scene]) -> InputError:
        """The error if it covers none of the scenes."""

    def polygons_by_class(self, sources: Sequence[Source]) -> list[int] | None:
        """Number of polygons of each class that label `sources`; None for a raster."""

    def remarks(self, scenes: Sequence[Scene], sources: Sequence[Source]) -> list[str]:
        """Remarks that stop nothing; `sources` are those of the scenes that it covers, with their labels.

        Raises:
            InputError: its labels contradict each other.
        """
