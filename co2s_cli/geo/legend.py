"""What the values of a map mean: names and colours of the classes of a class raster, and steps of fractions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from co2s_cli.classes import IGNORE, ClassMap, Color, LandClass
from co2s_cli.errors import ConfigError

STEPS = 254
"""A fraction p in [0, 1] is stored as round(p × STEPS) in uint8, so that 255 is left for 'no value'."""


@dataclass(frozen=True, slots=True)
class Legend:
    """A name and a colour for every value that can be a class, 0 … 254."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    told: int = 0
    """Values, from 0, that the file has names for."""

    @classmethod
    def of(cls, dataset: Any) -> Legend:
        """The legend of an open class raster.

        Names are the tag `CLASS_NAMES` (a JSON list) or GDAL's category names beside the file, which rasterio does not
        read; colours are the palette's. What has no name is called after its id, what has no colour gets ours.
        """
        told = _tagged_names(dataset) or _category_names(Path(dataset.name + ".aux.xml"))
        names = tuple(told[value] if value < len(told) and told[value] else f"class {value}" for value in range(IGNORE))
        ours = ClassMap.of(str(value) for value in range(IGNORE)).colors
        palette = _palette(dataset)
        return cls(names, tuple(palette.get(value, ours[value]) for value in range(IGNORE)), min(len(told), IGNORE))

    def ids(self, wanted: Iterable[str]) -> list[int]:
        """Ids of classes given by name or by id.

        Raises:
            ConfigError: a class that the raster cannot have.
        """
        return [self._id(name) for name in wanted]

    def class_map(self, values: Iterable[int]) -> ClassMap:
        """The classes up to the highest of `values`; a name that occurs twice gets its id behind it."""
        count = max(values, default=0) + 1
        names = self.names[:count]
        unique = [name if names.count(name) == 1 else f"{name} ({value})" for value, name in enumerate(names)]
        return ClassMap(tuple(LandClass(*pair) for pair in zip(unique, self.colors, strict=False)))

    def _id(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        if name.isdecimal() and len(name) <= 3 and int(name) < IGNORE:
            return int(name)
        named = [known for value, known in enumerate(self.names) if known != f"class {value}"]
        known = ", ".join(named) if named else "ids 0 to 254, this raster has no names"
        raise ConfigError(f"{name}: no such class in the raster (known: {known})")


def _tagged_names(dataset: Any) -> list[str]:
    text = dataset.tags().get("CLASS_NAMES")
    try:
        names = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []  # someone else's tag of the same name
    return [str(name) for name in names] if isinstance(names, list) else []


def _category_names(path: Path) -> list[str]:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - no external entities are resolved
    except (OSError, ET.ParseError):
        return []  # beside most rasters there is no such file
    return [item.text or "" for item in root.iterfind("PAMRasterBand[@band='1']/CategoryNames/Category")]


def _palette(dataset: Any) -> dict[int, Color]:
    try:
        table = dataset.colormap(1)
    except ValueError:  # rasterio's word for a band without palette
        return {}
    return {value: color[:3] for value, color in table.items()}
