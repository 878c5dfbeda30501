"""Draft a data.yaml from scenes and polygons: derive its classes, find classes with few labels, write its text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from co2s_cli.classes import Color, few_of
from co2s_cli.colors import colors_for
from co2s_cli.config.data import DataConfig
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import NO_CLASS
from co2s_cli.geo.labels.polygon_file import Attribute

FEW_PLACES = 5
"""A class labelled in fewer places gets a warning: one place in five validates."""
FEW_PIXELS = 100
"""A class with fewer labelled pixels gets a warning."""


@dataclass(frozen=True, slots=True)
class AttributeClasses:
    """The classes that the values of an attribute stand for."""

    names: tuple[str, ...]
    """Class names by id."""
    values: dict[int | str, int | str | None]
    """Value → class name, or None for "not labelled"; empty if each value is the name of its class."""

    @classmethod
    def of(cls, attribute: Attribute) -> AttributeClasses:
        """One class per value; values that differ only in case and blanks are one class.

        Whole numbers, also as text, become names such as `class 1`; the words in `NO_CLASS` mean "not labelled".
        """
        name_by_key: dict[str, str] = {}
        values: dict[int | str, int | str | None] = {}
        for value in attribute.values:
            text = " ".join(str(value).split())
            key = text.casefold()
            values[value] = None if key in NO_CLASS else name_by_key.setdefault(key, _class_name(text))
        values_are_names = all(value == name for value, name in values.items())
        return cls(tuple(name_by_key.values()), {} if values_are_names else values)


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """How much of one class the polygons label."""

    name: str
    color: Color
    polygons: int
    pixels: int
    train_pixels: int
    train_places: int
    """Places with training labels; polygons near each other are one place."""
    val_pixels: int
    val_places: int

    def thin(self, noun: str) -> str | None:
        """Warning that the class has too few labels, `noun` (polygons, points, or both); None if there are enough."""
        places = self.train_places + self.val_places
        if not self.pixels:
            remedy = "draw some on the scene" if noun == "points" else "draw larger ones"
            return f"{self.name}: its {noun} cover no pixel's centre, {remedy}"
        if not self.val_pixels:
            return f"{self.name}: cannot be validated, all its labels lie in one place; draw more of it elsewhere"
        if not self.train_pixels:
            return f"{self.name}: all its labels lie in one place, which validates; draw more of it elsewhere"
        if places < FEW_PLACES:
            where = f"{places} place{'s' * (places != 1)}"
            return f"{self.name}: labelled in {where}; with {FEW_PLACES} or more its figures mean something"
        if self.pixels < FEW_PIXELS:
            remedy = "points, or by polygons" if noun == "points" else "polygons, or by larger ones"
            return f"{self.name}: {self.pixels} pixels are labelled; label more by more {remedy}"
        return None


def class_facts(
    legend: AttributeClasses, polygons: Sequence[int], train: Sequence[LabelBlock], val: Sequence[LabelBlock]
) -> list[ClassFacts]:
    """The facts of each class. `polygons` is the number of polygons by class; `train` and `val` hold the labels."""
    counts = [np.array([block.counts for block in side]).reshape(-1, len(legend.names)) for side in (train, val)]
    train_pixels, val_pixels = (side.sum(axis=0).tolist() for side in counts)
    train_places, val_places = ((side > 0).sum(axis=0).tolist() for side in counts)
    return [
        ClassFacts(
            name=name,
            color=color,
            polygons=polygons[class_id],
            pixels=train_pixels[class_id] + val_pixels[class_id],
            train_pixels=train_pixels[class_id],
            train_places=train_places[class_id],
            val_pixels=val_pixels[class_id],
            val_places=val_places[class_id],
        )
        for class_id, (name, color) in enumerate(zip(legend.names, colors_for(legend.names), strict=True))
    ]


def check_legend(source: str, attribute: Attribute, legend: AttributeClasses) -> None:
    """Refuse an attribute that names fewer than two classes.

    Raises:
        InputError: lists the values of the attribute.
    """
    if len(legend.names) >= 2:
        return
    values = few_of(attribute.values) or "none"
    raise InputError(
        f"{source}: attribute {attribute.name} names {len(legend.names)} class{'es' * (not legend.names)} "
        f"(values: {values}), at least two are wanted",
        hint="draw polygons of other land, too, as a second class, or name another --attribute",
    )


_TEXT = """\
# {origin}
# Correct what is wrong here, then: co2s train {name} --out runs/first --preset small
# Paths are relative to this file. Every key: docs/data.md

# Rename or recolour as you like; new names want `values:` below. `prompts:` are words for the default preset's CLIP.
classes:
{classes}

# Images with labels. `values:` says what a value of the attribute means: {{pond: water, unknown: none}}
{labeled}
# Images to learn from without labels; add more scenes of the same sensor here.
{unlabeled}
# Share of the labels that validates, whole polygons of classes with several; or files: [{{image: …, labels: …}}]
{val}
# Bands that the model sees, by name or number in the file{known}. Delete those that it does not need.
# Scenes that it maps must have all bands of this list.
{bands}"""


def data_yaml(
    config: DataConfig, facts: Iterable[ClassFacts], *, name: str, origin: str, known: Sequence[str], noun: str
) -> str:
    """The commented text of a data.yaml.

    Args:
        config: its settings.
        facts: its classes, in the order of their ids.
        name: name of the file, for the command in its comments.
        origin: text of its first comment.
        known: common names of the bands.
        noun: what the labels are: polygons, points, or both.
    """
    entries = config.model_dump(mode="json", exclude_defaults=True)
    values = [entry.values for entry in config.labeled]  # not from the JSON dump: it turns numbers as keys into texts
    labeled = [
        {**entry, "attribute": item.attribute, **({"values": dict(meaning)} if meaning else {})}
        for entry, item, meaning in zip(entries["labeled"], config.labeled, values, strict=True)
    ]
    return _TEXT.format(
        origin=origin,
        name=name,
        classes="\n".join(_class_line(item, noun) for item in facts),
        labeled=_lines({"labeled": labeled}),
        unlabeled=_lines({"unlabeled": [entry.image for entry in config.unlabeled]}),
        val=f"val: {config.val}\n",
        known=f" ({', '.join(known)})" if known else "",
        bands=_lines({"bands": list(config.bands)}),
    )


def _class_line(item: ClassFacts, noun: str) -> str:
    comment = (
        f"{item.polygons} {noun}, {item.pixels:,} pixels: {item.train_pixels:,} train, {item.val_pixels:,} validate"
    )
    entry = {"name": item.name, "color": list(item.color)}
    line = yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, allow_unicode=True, width=10_000)
    return f"- {line.strip()}  # {comment}"


def _class_name(text: str) -> str:
    return f"class {text}" if text.lstrip("-").isdecimal() else text


def _lines(part: dict[str, Any]) -> str:
    return yaml.safe_dump(part, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
