"""Metadata of settings fields: how each is given on the command line. Read by `cli/` and by error messages."""

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

    Args:
        spellings: names of the option, the main one first; without any, `--` and the name of the field.
        panel: heading in `--help` under which the option stands; one of `PANELS`.
        metavar: what `--help` shows for the value.
        repeats: the option may be given several times and makes a list.
        alone: value of the option if no value follows it; the only other value is the word in brackets in `metavar`.
        slash: the value is passed on as text, so that a path keeps the slash at its end.
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


BANDS_FLAG = Flag("--bands", "--bidx", "-b", panel="Input", metavar="BAND,…", repeats=True)
"""The option that picks bands, of every command that has it."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument of the command line, as metadata of a field; with `repeats` it takes several values."""

    metavar: str
    repeats: bool = False


def on_command_line(kind: type[BaseModel], name: str) -> Flag | Argument | None:
    """The flag or argument of field `name`; None if only a file can set it.

    A subclass that redefines a field without a flag keeps the flag of its base class.
    """
    fields = (getattr(base, "model_fields", {}).get(name) for base in kind.__mro__)
    entries = (item for field in fields if field for item in field.metadata if isinstance(item, Flag | Argument))
    return next(entries, None)


def all_on_command_line(kind: type[BaseModel]) -> Iterator[tuple[str, Flag | Argument]]:
    """Fields that the command line can set, required ones first: all arguments, then the flags of each panel."""
    names = sorted(kind.model_fields, key=lambda name: not kind.model_fields[name].is_required())
    all_entries = [(name, on_command_line(kind, name)) for name in names]
    entries = [(name, entry) for name, entry in all_entries if entry is not None]
    yield from ((name, entry) for name, entry in entries if isinstance(entry, Argument))
    for panel in PANELS:
        yield from ((name, entry) for name, entry in entries if isinstance(entry, Flag) and entry.panel == panel)


def as_typed(kind: type[BaseModel], name: str) -> str:
    """Field `name` as a user types it: `--out` or `SCENE`; the field's name if only a file can set it."""
    entry = on_command_line(kind, name)
    if isinstance(entry, Flag):
        return entry.spelled(name)[0].partition("/")[0]
    return entry.metavar if entry else name
