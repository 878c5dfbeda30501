"""The classes of a file of labels, how much of each is labelled, and which have few labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from co2s_cli.classes import MAX_NAME, Color, few_of
from co2s_cli.colors import colors_for
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import NO_CLASS

FEW_PLACES = 5
"""A class labelled in fewer places gets a warning: one place in five validates."""
FEW_PIXELS = 100
"""A class with fewer labelled pixels gets a warning."""
RASTER_NOUN = "labels"
"""What the labels of a raster are called, where others are polygons or points."""

_MORE_POLYGONS = " by more polygons, or by larger ones"


@dataclass(frozen=True, slots=True)
class LabelClasses:
    """The classes that the values of an attribute or of a raster stand for."""

    names: tuple[str, ...]
    """Class names by id."""
    colors: tuple[Color, ...]
    """Colours by id."""
    values: dict[int | str, int | str | None]
    """Value → class name, or None for "not labelled"; empty if each value is the name of its class."""

    @classmethod
    def of(cls, entries: Iterable[tuple[int | str, str | None, Color | None]]) -> LabelClasses:
        """One class per name; names that differ only in case and blanks are one class.

        Whole numbers become names such as `class 1`; None and the words in `NO_CLASS` mean "not labelled".

        Args:
            entries: each value with its name, and with its colour if it has one; other classes get the usual one.
        """
        name_by_key: dict[str, str] = {}
        values: dict[int | str, int | str | None] = {}
        own_colors: dict[str, Color] = {}
        for value, text, color in entries:
            words = " ".join((text or "").split())
            own = _class_name(words)
            values[value] = name = None if words.casefold() in NO_CLASS else name_by_key.setdefault(own.casefold(), own)
            if name and color:
                own_colors.setdefault(name, color)
        names = tuple(name_by_key.values())
        colors = tuple(own_colors.get(name, color) for name, color in zip(names, colors_for(names), strict=True))
        values_are_names = all(value == name for value, name in values.items())
        return cls(names, colors, {} if values_are_names else values)


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """How much of one class is labelled."""

    name: str
    color: Color
    polygons: int | None
    """Number of polygons and points; None for a raster of labels."""
    pixels: int
    train_pixels: int
    train_places: int
    """Places with training labels; labels near each other are one place."""
    val_pixels: int
    """Pixels that judge: in cells of a raster without the rim that separates them from training labels."""
    val_places: int

    def thin(self, noun: str) -> str | None:
        """Warning that the class has too few labels, which are called `noun`; None if there are enough."""
        places = self.train_places + self.val_places
        if not self.pixels:
            remedy = "draw some on the scene" if noun == "points" else "draw larger ones"
            return f"{self.name}: its {noun} cover no pixel's centre, {remedy}"
        if not self.val_pixels:
            reason = "all its labels lie in one place" if places == 1 else "none of its places could be held back"
            return f"{self.name}: cannot be validated, {reason}; draw more of it elsewhere"
        if not self.train_pixels:
            return f"{self.name}: all its labels lie in one place, which validates; draw more of it elsewhere"
        if places < FEW_PLACES:
            where = f"{places} place{'s' * (places != 1)}"
            return f"{self.name}: labelled in {where}; with {FEW_PLACES} or more its figures mean something"
        if self.pixels < FEW_PIXELS:
            remedies = {"points": " by more points, or by polygons", RASTER_NOUN: ""}
            return f"{self.name}: {self.pixels} pixels are labelled; label more{remedies.get(noun, _MORE_POLYGONS)}"
        return None


def class_facts(
    classes: LabelClasses, polygons: Sequence[int] | None, train: Sequence[LabelBlock], val: Sequence[LabelBlock]
) -> list[ClassFacts]:
    """The facts of each class. `polygons` is the number of polygons by class; `train` and `val` hold the labels."""
    train_pixels, val_pixels, judged = (
        np.array(counts, np.int64).reshape(-1, len(classes.names))
        for counts in (
            [block.counts for block in train],
            [block.counts for block in val],
            [block.core_counts for block in val],
        )
    )
    return [
        ClassFacts(
            name=name,
            color=color,
            polygons=None if polygons is None else polygons[class_id],
            pixels=int(train_pixels[:, class_id].sum() + val_pixels[:, class_id].sum()),
            train_pixels=int(train_pixels[:, class_id].sum()),
            train_places=int((train_pixels[:, class_id] > 0).sum()),
            val_pixels=int(judged[:, class_id].sum()),
            val_places=int((val_pixels[:, class_id] > 0).sum()),
        )
        for class_id, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]


def check_classes(subject: str, classes: LabelClasses, values: Sequence[int | str], *, hint: str) -> None:
    """Refuse labels of fewer than two classes, and names that are too long.

    Raises:
        InputError: names `subject`, which labels them, and lists its `values`; `hint` says how to get a second class.
    """
    count = len(classes.names)
    if count < 2:
        raise InputError(
            f"{subject} names {count} class{'es' * (not count)} (values: {few_of(values) or 'none'}), "
            "at least two are wanted",
            hint=hint,
        )
    longest = max(classes.names, key=len)
    if len(longest) > MAX_NAME:
        raise InputError(f"{subject} names a class with {len(longest)} characters, at most {MAX_NAME} are allowed")


def _class_name(text: str) -> str:
    return f"class {text}" if text.lstrip("-").isdecimal() else text
