"""Conventional colours of land-cover classes by their names, from the table `assets/colors.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import yaml

from co2s_cli.classes import PALETTE, Color

_NEGATIONS = frozenset({"no", "non", "not"})
"""Words that make a name mean the opposite of a class in the table."""
_SHADES = (0.72, 1.25, 0.52, 1.45)
"""Factors of brightness for further classes with the same conventional colour, such as two kinds of forest."""
_MIN_DISTANCE = 40.0
"""Euclidean distance in RGB below which two colours look alike on a map."""


def colors_for(names: Sequence[str]) -> list[Color]:
    """A colour for each class name: the conventional one, a shade of it if that is taken, else one of the palette."""
    usual = [usual_color(name) for name in names]
    taken: list[Color] = []
    for color in usual:
        if color is not None:
            taken.append(_free([color, *(_shade(color, factor) for factor in _SHADES), *PALETTE], taken))
    by_name = iter(list(taken))
    colors = []
    for color in usual:
        if color is None:
            taken.append(_free(PALETTE, taken))
        colors.append(taken[-1] if color is None else next(by_name))
    return colors


def usual_color(name: str) -> Color | None:
    """The conventional colour of the class `name`; None if the table has neither the name nor one of its words."""
    words = _words(name)
    if _NEGATIONS & set(words):
        return None
    table = _table()
    return next((table[text] for text in (" ".join(words), *reversed(words)) if text in table), None)


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without a plural s."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [word.removesuffix("s") if not word.endswith("ss") else word for word in words if word]


def _shade(color: Color, factor: float) -> Color:
    """A colour with its brightness multiplied by `factor`."""
    red, green, blue = (min(255, round(value * factor)) for value in color)
    return red, green, blue


def _free(candidates: Sequence[Color], taken: Sequence[Color]) -> Color:
    """The first candidate that looks like none of the taken colours; the first candidate if all look like one."""
    return next(
        (color for color in candidates if all(_distance(color, other) >= _MIN_DISTANCE for other in taken)),
        candidates[0],
    )


def _distance(first: Color, second: Color) -> float:
    """Euclidean distance of two colours in RGB."""
    return float(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5)


@cache
def _table() -> Mapping[str, Color]:
    """Name, as words of `_words` joined by blanks → conventional colour."""
    lines = yaml.safe_load(files("co2s_cli.assets").joinpath("colors.yaml").read_text(encoding="utf-8"))
    return {" ".join(_words(name)): tuple(line["color"]) for line in lines for name in line["names"]}
