"""The classes of a map: names, colours, prompts, and the value that means no class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

IGNORE = 255
"""Value of pixels without a class, in labels and in maps: not labelled, not valid or not confident enough."""

MAX_CLASSES = IGNORE
"""Most classes of a map; ids are 0 … 254."""

MAX_NAME = 200
"""Most characters of a class name."""

Color = tuple[int, int, int]
"""Red, green, blue, each 0 … 255."""

PALETTE: tuple[Color, ...] = (
    (255, 127, 14), (148, 103, 189), (214, 39, 40), (188, 189, 34), (140, 86, 75), (227, 119, 194),
    (127, 127, 127), (23, 190, 207), (44, 160, 44), (31, 119, 180), (255, 187, 120), (197, 176, 213),
    (255, 152, 150), (196, 156, 148), (152, 223, 138), (174, 199, 232),
)  # fmt: skip
"""Default colours of classes by id, repeated after the last one; green and blue, which mean plants and water, late."""


@dataclass(frozen=True, slots=True)
class LandClass:
    """One class of a map."""

    name: str
    color: Color
    prompts: tuple[str, ...] = ()
    """Texts that describe the class to a text encoder; if empty, the name is used."""


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes in the order of their ids: the id of a class is its position."""

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"need 1 to {MAX_CLASSES} classes, got {len(self.classes)}")
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise ValueError(f"class names must differ, repeated: {', '.join(sorted(repeated))}")

    @classmethod
    def of(cls, items: Iterable[Mapping[str, Any] | str]) -> ClassMap:
        """Build from plain data: a class is a name, or a mapping with `name` and optionally `color` and `prompts`."""
        return cls(tuple(_land_class(item, position) for position, item in enumerate(items)))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return tuple(item.name for item in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        """Colours by id."""
        return tuple(item.color for item in self.classes)

    def id_of(self, name: str) -> int:
        """Id of the class called `name`.

        Raises:
            KeyError: no class has this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(name) from None

    def joined(self, other: ClassMap) -> tuple[ClassMap, tuple[int, ...]]:
        """The union of these classes and those of `other`, and the id in the union of each class of `other`.

        Classes with the same name are the same class; ids of these classes stay as they are.
        """
        union = ClassMap((*self.classes, *(item for item in other.classes if item.name not in self.names)))
        return union, tuple(union.id_of(name) for name in other.names)

    def plain(self) -> list[dict[str, Any]]:
        """The classes as data for JSON or YAML; `of` reads it back."""
        return [{"name": c.name, "color": list(c.color), "prompts": list(c.prompts)} for c in self.classes]


def few_of(names: Iterable[object]) -> str:
    """The first 20 names as text for a message."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:20]) + (", …" if len(texts) > 20 else "")


def _land_class(item: Mapping[str, Any] | str, position: int) -> LandClass:
    """The class with id `position` from plain data, as `ClassMap.of` takes it."""
    if isinstance(item, str):
        item = {"name": item}
    unknown = set(item) - {"name", "color", "prompts"}
    if "name" not in item or unknown:
        raise ValueError(f"class {position}: keys are name, color, prompts; got {', '.join(map(str, item))}")
    name = str(item["name"])
    if len(name) > MAX_NAME:
        raise ValueError(f"class {position}: a name has at most {MAX_NAME} characters, got {name[:MAX_NAME]}…")
    color, prompts = item.get("color") or PALETTE[position % len(PALETTE)], item.get("prompts") or ()
    if not isinstance(color, list | tuple) or not isinstance(prompts, list | tuple):
        raise ValueError(f"class {name}: color and prompts must be lists, got {color!r} and {prompts!r}")  # noqa: TRY004 - outside data
    if len(color) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in color):
        raise ValueError(f"class {name}: color must be three values in 0..255, got {color}")
    return LandClass(name, (int(color[0]), int(color[1]), int(color[2])), tuple(str(prompt) for prompt in prompts))
