"""Matches the class ids of map and truth: by class name if both have names, else ids are taken as equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.scoring.counts import MapCounts


@dataclass(frozen=True, slots=True)
class Naming:
    """The joint classes of a map and its truth."""

    classes: ClassMap
    """Classes of both, those of the map first; counts are kept under their ids."""
    truth: ClassMap
    """Classes of the truth, by the ids in the truth."""
    truth_ids: tuple[int, ...]
    """For each id in the truth its id in `classes`."""
    drawn: int
    """Number of classes of the map: its ids are below this."""
    named: bool
    """Whether the map or the truth has class names."""

    @classmethod
    def of(cls, map_classes: ClassMap | None, truth_classes: ClassMap | None) -> Naming:
        """The joint classes. None: no class names are known, and those of the other one are used.

        Raises:
            InputError: map and truth have no class name in common.
        """
        numbered = ClassMap.of(f"class {value}" for value in range(IGNORE))
        on_map, in_truth = map_classes or truth_classes or numbered, truth_classes or map_classes or numbered
        if not set(on_map.names) & set(in_truth.names):
            both = f"the map's classes ({few_of(on_map.names)}) and the truth's ({few_of(in_truth.names)})"
            raise InputError(
                f"{both} have no name in common",
                hint="name the truth's values, --values 1=water,2=forest, or the classes of its ids, --classes",
            )
        classes, ids = on_map.joined(in_truth)
        return cls(classes, in_truth, ids, len(on_map), not (map_classes is None and truth_classes is None))

    def remarks(self) -> list[str]:
        """Remarks for the user about classes that differ, one sentence each."""
        missing = self.classes.names[self.drawn :]
        remarks = [f"the map has no {few_of(missing)}: every such pixel of the truth is wrong"] if missing else []
        if self.truth_ids != tuple(range(len(self.truth_ids))):
            remarks.append("ids of map and truth differ: classes are matched by name")
        return remarks

    def ids(self, names: Iterable[str]) -> tuple[int, ...]:
        """Ids in `classes` of classes by name.

        Raises:
            ConfigError: there is no class of such a name.
        """
        unknown = [name for name in names if name not in self.classes.names]
        if unknown:
            raise ConfigError(
                f"--exclude {', '.join(unknown)}: no such class (known: {few_of(self.classes.names)})",
                hint="classes are named, not numbered; --classes data.yaml brings names",
            )
        return tuple(self.classes.id_of(name) for name in names)

    def names_of(self, tally: MapCounts, source: str) -> dict[int, str]:
        """Names of the classes to report, by id: all classes; if no names are known, those that occur in the counts.

        `source` is the map, for the error.

        Raises:
            InputError: the map holds a value without a class name.
        """
        if not self.named:
            return {class_id: self.classes.names[class_id] for class_id in tally.occurring}
        nameless = np.flatnonzero(tally.matrix.sum(axis=0)[self.drawn :]) + self.drawn
        if nameless.size:
            raise InputError(
                f"{source}: value {nameless[0]} has no name, known are 0 to {self.drawn - 1} "
                f"({few_of(self.classes.names[: self.drawn])})",
                hint="name all classes of the map in the order of its ids: --classes data.yaml",
            )
        return dict(enumerate(self.classes.names))
