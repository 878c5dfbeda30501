"""A raster of labels to draft a data.yaml from: which of its values are classes, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.classes import few_of
from co2s_cli.config.init import InitConfig
from co2s_cli.data.draft.classes import RASTER_NOUN, LabelClasses, check_classes
from co2s_cli.data.sources import Source
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.labels import label_grid
from co2s_cli.geo.labels.raster_values import RasterValues, read_values
from co2s_cli.geo.read.scene import Scene

_UNLABELED = frozenset({"unclassified", "unlabeled", "unlabelled", "not labeled", "not labelled", "nodata", "no data"})
"""Names of values, in lower case, that mean "not labelled", besides the words that mean so everywhere."""


@dataclass(frozen=True, slots=True)
class RasterFile:
    """A raster of labels, and the classes by its values."""

    path: Path
    grid: Grid
    values: RasterValues
    classes: LabelClasses

    @classmethod
    def open(cls, settings: InitConfig) -> RasterFile:
        """The raster of --labels.

        Raises:
            ConfigError: --attribute and --overlaps, which belong to polygons, or values of --ignore that it lacks.
            InputError: it cannot be read, labels fewer than two classes, or its 0 may mean "not labelled" or a class.
        """
        path = settings.labels
        if settings.attribute is not None or settings.overlaps != "refuse":
            raise ConfigError(f"--attribute and --overlaps belong to polygons, and {path} is a raster")
        grid, values = label_grid(path), read_values(path)
        ignored = _ignored(path, values, settings.ignore)
        classes = LabelClasses.of(
            (value, _name(value, values, ignored), values.colors.get(value)) for value in values.counts
        )
        hint = "at least two of its values have to be classes; --ignore says which are none"
        check_classes(str(path), classes, [*values.counts], hint=hint)
        return cls(path, grid, values, classes)

    @property
    def attribute(self) -> None:
        """None: its values are the classes."""
        return

    @property
    def noun(self) -> str:
        """What its labels are called."""
        return RASTER_NOUN

    def polygons_on(self, scene: Scene) -> None:  # noqa: ARG002 - as for polygons
        """None: it has none."""
        return

    def covers(self, scene: Scene) -> bool:
        """Whether it has the pixels of a scene."""
        return grid_problem(self.path, self.grid, scene.grid) is None

    def lies_elsewhere(self, scenes: Sequence[Scene]) -> InputError:
        """The error if it has the pixels of no scene: how it differs from the first one."""
        problem = grid_problem(self.path, self.grid, scenes[0].grid)
        assert problem is not None
        return problem

    def polygons_by_class(self, sources: Sequence[Source]) -> None:  # noqa: ARG002 - as for polygons
        """None: it has none."""
        return

    def remarks(self, scenes: Sequence[Scene], sources: Sequence[Source]) -> list[str]:  # noqa: ARG002 - as for polygons
        """Remarks on values that are no labels, and on classes without a name."""
        found = []
        left_out = [value for value in self.values.counts if self.classes.values[value] is None]
        for value in left_out:
            name = f" ({self.values.names[value]})" if value in self.values.names else ""
            found.append(f"{self.path}: value {value}{name}, {self._share(value)} of the pixels, is not labelled")
        unnamed = [value for value in self.values.counts if value not in self.values.names and value not in left_out]
        if unnamed:
            subject = f"values {few_of(unnamed)} have" if len(unnamed) > 1 else f"value {unnamed[0]} has"
            found.append(f"{self.path}: {subject} no name in the file; classes can be named in the data.yaml")
        return found

    def _share(self, value: int) -> str:
        return shown_share(self.values.counts[value] / self.values.pixels)


def shown_share(share: float) -> str:
    """A share in percent, of which small and large ones do not become 0 and 100."""
    percent = 100 * share
    return f"{percent:.0f} %" if 1 <= percent <= 99 else f"{percent:.2g} %" if percent < 1 else f"{percent:.4g} %"


def _ignored(path: Path, values: RasterValues, given: list[int] | None) -> frozenset[int]:
    """The values of --ignore; none if it is not given and 0 is no question."""
    if given is None:
        if 0 in values.counts and 0 not in values.names:
            share = shown_share(values.counts[0] / values.pixels)
            raise InputError(
                f'{path}: value 0, {share} of the pixels, may be a class or mean "not labelled", and has no name',
                hint="--ignore 0 if nothing is labelled there, --ignore none if it is a class",
            )
        return frozenset()
    unknown = [value for value in given if value not in values.counts and value not in values.void]
    if unknown:
        raise ConfigError(
            f"--ignore {few_of(unknown)}: {path} has no such value (found: {few_of([*values.counts])})",
        )
    return frozenset(given)


def _name(value: int, values: RasterValues, ignored: frozenset[int]) -> str | None:
    """Name of the class of a value; None if it means "not labelled"."""
    name = values.names.get(value, str(value))
    return None if value in ignored or " ".join(name.split()).casefold() in _UNLABELED else name
