"""A raster of labels to draft a data.yaml from: which of its values are classes, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.classes import few_of
from co2s_cli.config.init import InitConfig
from co2s_cli.data.draft.classes import RASTER_NOUN, LabelClasses, check_classes
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.labels import label_grid
from co2s_cli.geo.labels.raster_values import RasterValues, read_values
from co2s_cli.geo.read.features import VECTORS
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
        try:
            grid = label_grid(path)
        except InputError as error:
            raise InputError(error.message, hint=error.hint or f"polygons end in {few_of(sorted(VECTORS))}") from error
        values = read_values(path)
        ignored = _ignored(path, values, settings.ignore)
        classes = LabelClasses.of(
            (value, _name(value, values, ignored), values.colors.get(value)) for value in values.counts
        )
        hint = "at least two of its values have to be classes; nodata, 255 and those of --ignore are none"
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

    def on(self, scene: Scene) -> tuple[bool, None]:
        """Whether it has the pixels of a scene; a raster has no polygons."""
        return grid_problem(self.path, self.grid, scene.grid) is None, None

    def lies_elsewhere(self, scenes: Sequence[Scene]) -> InputError:
        """The error if it has the pixels of no scene: how it differs from the first one."""
        problem = grid_problem(self.path, self.grid, scenes[0].grid)
        assert problem is not None
        return problem

    def polygons_by_class(self, *_: object) -> None:
        """None: it has none."""
        return

    def remarks(self, *_: object) -> list[str]:
        """Remarks on values that are no labels, on classes without a name, and on values that share one."""
        values, meanings = self.values, self.classes.values
        classes = [value for value in values.counts if meanings[value] is not None]
        unlabeled = {value: count for value, count in (values.void | values.counts).items() if value not in classes}
        found = [
            f"{self.path}: value {value}{f' ({values.names[value]})' if value in values.names else ''}, "
            f"{_percent(count / values.pixels)} of the pixels, is not labelled"
            for value, count in sorted(unlabeled.items())
            if count
        ]
        unnamed = [value for value in classes if value not in values.names]
        if unnamed:
            subject = f"values {few_of(unnamed)} have" if len(unnamed) > 1 else f"value {unnamed[0]} has"
            found.append(f"{self.path}: {subject} no name in the file; classes can be named in the data.yaml")
        shared = [value for value in classes if [*meanings.values()].count(meanings[value]) > 1]
        if shared:
            found.append(f"{self.path}: of the values {few_of(shared)} some have the same name and are one class")
        return found


def _percent(share: float) -> str:
    """A share in percent, of which small and large ones do not become 0 and 100."""
    percent = 100 * share
    return f"{percent:.0f} %" if 1 <= percent <= 99 or share in (0, 1) else f"{percent:.4g} %"


def _ignored(path: Path, values: RasterValues, given: list[int] | None) -> frozenset[int]:
    """The values of --ignore, None if it is not given; a 0 without a name is a class if the list is without it.

    Raises:
        InputError: nothing says whether a 0 without a name is a class.
        ConfigError: the raster has no such value.
    """
    unknown = [value for value in given or () if value not in values.counts and value not in values.void]
    if unknown:
        raise ConfigError(f"--ignore {few_of(unknown)}: {path} has no such value (found: {few_of([*values.counts])})")
    if given is None and 0 in values.counts and 0 not in values.names:
        share = _percent(values.counts[0] / values.pixels)
        raise InputError(
            f'{path}: value 0, {share} of the pixels, may be a class or mean "not labelled", and has no name',
            hint="--ignore 0 if nothing is labelled there, --ignore none if it is a class",
        )
    return frozenset(given or ())


def _name(value: int, values: RasterValues, ignored: frozenset[int]) -> str | None:
    """Name of the class of a value; None if it means "not labelled"."""
    name = values.names.get(value, f"class {value}")
    return None if value in ignored or " ".join(name.split()).casefold() in _UNLABELED else name
