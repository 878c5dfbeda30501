"""The meaning of raster values: names and colours of classes, and the byte encoding of fractions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from co2s_cli.classes import IGNORE, ClassMap, Color, LandClass
from co2s_cli.errors import ConfigError

STEPS = 254
"""A fraction p in [0, 1] is stored as round(p × STEPS) in uint8, which leaves 255 for 'no value'."""


@dataclass(frozen=True, slots=True)
class Legend:
    """A name and a colour for every value that can be a class id, 0 … 254."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    named_count: int = 0
    """Length of the file's list of class names, which belong to the values 0, 1, 2, …; 0 if the file has none."""
    named: frozenset[int] = frozenset()
    """The values that have a name in that list; some may be blank there."""
    palette: Mapping[int, Color] = field(default_factory=dict)
    """The colours of the file's palette by value; empty without palette."""

    @classmethod
    def of(cls, dataset: Any) -> Legend:
        """The legend of an open class raster.

        Names come from the tag `CLASS_NAMES` (a JSON list) or from GDAL's category names in the .aux.xml beside the
        file, which rasterio does not read; colours come from the palette. A value without a name is called `class ID`,
        a value without a colour gets the one of our own palette.
        """
        file_names = _tagged_names(dataset) or _category_names(Path(dataset.name + ".aux.xml"))
        named_count = min(len(file_names), IGNORE)
        named = frozenset(value for value in range(named_count) if file_names[value])
        names = tuple(file_names[value] if value in named else f"class {value}" for value in range(IGNORE))
        default_colors = ClassMap.of(str(value) for value in range(IGNORE)).colors
        palette = _palette(dataset)
        colors = tuple(palette.get(value, default_colors[value]) for value in range(IGNORE))
        return cls(names, colors, named_count, named, palette)

    def ids(self, wanted: Iterable[str]) -> list[int]:
        """Ids of classes given by name or by id.

        Raises:
            ConfigError: a text is neither the name of a class of the raster nor an id from 0 to 254.
        """
        return [self._id(name) for name in wanted]

    def class_map(self, values: Iterable[int]) -> ClassMap:
        """The classes with ids from 0 to the highest of `values`; names that occur twice get their id appended."""
        count = max(values, default=0) + 1
        names = self.names[:count]
        unique = [name if names.count(name) == 1 else f"{name} ({value})" for value, name in enumerate(names)]
        return ClassMap(tuple(LandClass(*pair) for pair in zip(unique, self.colors, strict=False)))

    def _id(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        if name.isdecimal() and len(name) <= 3 and int(name) < IGNORE:
            return int(name)
        named = [class_name for value, class_name in enumerate(self.names) if class_name != f"class {value}"]
        choices = ", ".join(named) if named else "ids 0 to 254, this raster has no names"
        raise ConfigError(f"{name}: no such class in the raster (known: {choices})")


def _tagged_names(dataset: Any) -> list[str]:
    """Class names by id from the tag `CLASS_NAMES`; empty if the tag is missing or no JSON list."""
    text = dataset.tags().get("CLASS_NAMES")
    try:
        names = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []  # another program's tag of the same name
    return [str(name) for name in names] if isinstance(names, list) else []


def _category_names(path: Path) -> list[str]:
    """Class names by id from GDAL's .aux.xml; empty if there is no such file."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - no external entities are resolved
    except (OSError, ET.ParseError):
        return []  # most rasters have no .aux.xml
    return [item.text or "" for item in root.iterfind("PAMRasterBand[@band='1']/CategoryNames/Category")]


def _palette(dataset: Any) -> dict[int, Color]:
    """Colour of each value in the palette of band 1; empty without palette."""
    try:
        table = dataset.colormap(1)
    except ValueError:  # raised by rasterio for a band without palette
        return {}
    return {value: color[:3] for value, color in table.items()}
