"""The classes that a landscape is labelled with: all six, a selection, or some of them joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap, LandClass
from co2s_cli.data.landscape.palette import CLASSES
from co2s_cli.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """The classes of the labels, and the table that maps the landscape's class ids to them."""

    classes: ClassMap
    table: NDArray[np.uint8]
    """(256,) class id in the labels for each id of the landscape; `IGNORE` for a class that is left out."""

    @classmethod
    def parse(cls, text: str) -> LabelScheme:
        """The scheme of a text: 'road,building' selects two classes, 'built=building+road,water' joins and renames.

        Empty text stands for all classes of the landscape.

        Raises:
            ConfigError: an unknown class, or a class that is used twice.
        """
        table = np.full(256, IGNORE, dtype=np.uint8)
        classes: list[LandClass] = []
        for entry in text.split(",") if text.strip() else CLASSES.names:
            name, _, members = entry.partition("=")
            ids = [_id_of(member, text) for member in (members or name).split("+")]
            if (table[ids] != IGNORE).any() or len(set(ids)) < len(ids):
                raise ConfigError(f"--classes {text}: {entry.strip()} repeats a class, each may be used once")
            table[ids] = len(classes)
            parts = [CLASSES.classes[number] for number in ids]
            prompts = tuple(prompt for part in parts for prompt in part.prompts)
            classes.append(LandClass(name.strip(), parts[0].color, prompts))
        try:
            return cls(ClassMap(tuple(classes)), table)
        except ValueError as error:
            raise ConfigError(f"--classes {text}: {error}") from error


def _id_of(name: str, text: str) -> int:
    try:
        return CLASSES.id_of(name.strip().lower())
    except KeyError:
        raise ConfigError(
            f"--classes {text}: no class is called {name.strip()!r}",
            hint=f"known: {', '.join(CLASSES.names)}; join classes by name=one+two",
        ) from None
