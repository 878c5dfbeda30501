"""How a setting is given on the command line: written beside the field, read by `cli/` and by error messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

PANELS = ("Input", "Output", "Model", "Labels", "Scores", "Polygons", "Training", "Teachers", "Speed")
"""Groups of options in the order in which `--help` shows them."""


class Flag:
    """An option of the command line, as metadata of a field: `Annotated[int, Flag("--tile", "--size", panel="Model")]`.

    Without spellings it is called as its field. A flag that `repeats` may be given several times, for a list. One that
    may stand `alone`, for that value, takes no other words than its metavar in brackets names. A path with a `slash` at
    its end reaches the settings as it was typed.
    """

    def __init__(
        self,
        *spellings: str,
        panel: str,
        metavar: str | None = None,
        repeats: bool = False,
        alone: str = "",
        slash: bool = False,
    ) -> None:
        self.slash = slash
        self.alone = alone
        self.spellings = spellings
        self.panel = panel
        self.metavar = metavar
        self.repeats = repeats

    def spelled(self, name: str) -> tuple[str, ...]:
        """Every spelling of the flag of field `name`, the main one first."""
        return self.spellings or (f"--{name.replace('_', '-')}",)


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument of the command line, as metadata of a field; `repeats` takes all that are given."""

    metavar: str
    repeats: bool = False


def on_command_line(kind: type[BaseModel], name: str) -> Flag | Argument | None:
    """How field `name` is given; a subclass that changes type or default keeps the flag of its base."""
    fields = (getattr(base, "model_fields", {}).get(name) for base in kind.__mro__)
    known = (item for field in fields if field for item in field.metadata if isinstance(item, Flag | Argument))
    return next(known, None)


def all_on_command_line(kind: type[BaseModel]) -> Iterator[tuple[str, Flag | Argument]]:
    """Fields that the command line can set: arguments as declared, then flags by panel, those that are wanted first."""
    names = sorted(kind.model_fields, key=lambda name: not kind.model_fields[name].is_required())
    pairs = [(name, on_command_line(kind, name)) for name in names]
    given = [(name, entry) for name, entry in pairs if entry is not None]
    yield from ((name, entry) for name, entry in given if isinstance(entry, Argument))
    for panel in PANELS:
        yield from ((name, entry) for name, entry in given if isinstance(entry, Flag) and entry.panel == panel)


def as_typed(kind: type[BaseModel], name: str) -> str:
    """Field `name` as a user types it: `--out` or `SCENE`; its name where only a file can set it."""
    entry = on_command_line(kind, name)
    if isinstance(entry, Flag):
        return entry.spelled(name)[0].partition("/")[0]
    return entry.metavar if entry else name
