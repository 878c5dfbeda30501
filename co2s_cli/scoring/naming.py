"""Which id of the truth is which id of the map: by name where both have names, else the ids as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.scoring.counts import MapCounts


@dataclass(frozen=True, slots=True)
class Naming:
    """The classes of map and truth together."""

    classes: ClassMap
    """All of them, those of the map first; a position is the id that is counted under."""
    truth: ClassMap
    """Those whose ids the truth holds."""
    truth_ids: tuple[int, ...]
    """Id among all classes of each id of the truth."""
    drawn: int
    """Ids that the map may hold."""
    named: bool
    """Whether anybody has told names."""

    @classmethod
    def of(cls, ours: ClassMap | None, theirs: ClassMap | None) -> Naming:
        """Of the map's classes and the truth's; None where one has no names and so takes the other's.

        Raises:
            InputError: names that have nothing in common.
        """
        everything = ClassMap.of(f"class {value}" for value in range(IGNORE))
        mine, other = ours or theirs or everything, theirs or ours or everything
        if not set(mine.names) & set(other.names):
            named = f"the map's classes ({few_of(mine.names)}) and the truth's ({few_of(other.names)})"
            raise InputError(
                f"{named} have no name in common",
                hint="say what the truth's values mean, --values 1=water,2=forest, or whose ids they are, --classes",
            )
        classes, ids = mine.joined(other)
        return cls(classes, other, ids, len(mine), not (ours is None and theirs is None))

    def remarks(self) -> list[str]:
        """What a user should know, one sentence each."""
        extra = self.classes.names[self.drawn :]
        said = [f"the map cannot say {few_of(extra)}: every such pixel of the truth is wrong"] if extra else []
        if self.truth_ids != tuple(range(len(self.truth_ids))):
            said.append("ids of map and truth differ: classes are matched by name")
        return said

    def ids(self, names: Iterable[str]) -> tuple[int, ...]:
        """Ids of classes by name.

        Raises:
            ConfigError: no such class.
        """
        unknown = [name for name in names if name not in self.classes.names]
        if unknown:
            raise ConfigError(
                f"--exclude {', '.join(unknown)}: no such class (known: {few_of(self.classes.names)})",
                hint="classes are named, not numbered; --classes data.yaml brings names",
            )
        return tuple(self.classes.id_of(name) for name in names)

    def names_of(self, tally: MapCounts, source: str) -> dict[int, str]:
        """Names of the classes that are told of, by id: all; where nobody has told names, those that occur.

        Raises:
            InputError: the map holds a value that has no name.
        """
        if not self.named:
            return {one: self.classes.names[one] for one in tally.occurring}
        stray = np.flatnonzero(tally.matrix.sum(axis=0)[self.drawn :]) + self.drawn
        if stray.size:
            raise InputError(
                f"{source}: value {stray[0]} has no name, known are 0 to {self.drawn - 1} "
                f"({few_of(self.classes.names[: self.drawn])})",
                hint="name all classes of the map in the order of its ids: --classes data.yaml",
            )
        return dict(enumerate(self.classes.names))
