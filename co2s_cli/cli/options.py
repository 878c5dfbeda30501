"""The signature of a command from the class of its settings: each field that carries a `Flag` becomes an option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from co2s_cli import log
from co2s_cli.config import Settings, given
from co2s_cli.config.flags import Argument, Flag, all_on_command_line
from co2s_cli.config.units import show_bytes

Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; twice for debugging.")
]
Quiet = Annotated[
    int,
    typer.Option("--quiet", "-q", count=True, show_default=False, help="Say less: no progress, then no warnings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Log = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--log",
        help="json: every 30 seconds a line with host, scene, done, Mpx/s and seconds left on stderr, and no bar.",
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; flags win over it.")]

C = TypeVar("C", bound=Callable[..., Any])

_A_SIZE = 10**6
"""Numbers from here on are bytes, in every setting that has a flag."""

_METAVARS = {int: "<int>", float: "<float>", Path: "<path>"}
"""As Typer writes them for the options that it parses."""


def command(app: typer.Typer, name: str, kind: type[Settings] | None = None, *, example: str = "") -> Callable[[C], C]:
    """Register a function as command `name`.

    The function takes `flags`, the settings of `kind` that the user gave, by name of their field. Its other parameters
    are options of its own. Every command takes `-v` and `-q` after its name too. `example` is one line for its help.
    """
    generated = _parameters(kind) if kind else []
    names = [parameter.name for parameter in generated]

    def register(function: C) -> C:
        @functools.wraps(function)
        def run(*, verbose: int, quiet: int, **arguments: Any) -> Any:
            if verbose != quiet:
                log.setup(log.verbosity() + verbose - quiet)
            if kind is not None:
                arguments["flags"] = given(**{name: arguments.pop(name) for name in names})
            return function(**arguments)

        signature = inspect.signature(function, eval_str=True)
        others = [part for part in signature.parameters.values() if part.name != "flags"]
        loudness = [_keyword(label, annotation, 0) for label, annotation in (("verbose", Verbose), ("quiet", Quiet))]
        entries = all_on_command_line(kind) if kind else ()
        run.alone = {  # type: ignore[attr-defined]
            spelling: (entry.alone, str(entry.metavar).strip("[]"))
            for field, entry in entries
            if isinstance(entry, Flag) and entry.alone
            for spelling in entry.spelled(field)
        }
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*generated, *(part.replace(kind=part.KEYWORD_ONLY) for part in others), *loudness]
        )
        app.command(name, cls=_Command, epilog=f"Example: {example}" if example else None)(run)
        return function

    return register


class _Command(TyperCommand):
    """A command with flags that may stand alone or before one of a few words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give flags that stand alone their value, so that they do not take the argument behind them for it."""
        return super().parse_args(ctx, list(_with_values(args, self.alone)))

    @property
    def alone(self) -> dict[str, tuple[str, str]]:
        """The value of each such flag where it stands alone, and the word that it takes."""
        return getattr(self.callback, "alone", {})


def _with_values(args: list[str], alone: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Arguments in which each of the flags `alone` carries its value: `--flag=value`."""
    rest = iter(range(len(args)))
    for at in rest:
        value, word = alone.get(args[at], ("", ""))
        if value and args[at + 1 : at + 2] == [word]:
            value = args[next(rest)]
        yield f"{args[at]}={value}" if value else args[at]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameters(kind: type[Settings]) -> list[inspect.Parameter]:
    """A parameter for each field that the command line can set; None (or no item) where the user says nothing."""
    return [_keyword(name, _annotation(kind, name, entry), None) for name, entry in all_on_command_line(kind)]


def _annotation(kind: type[Settings], name: str, entry: Flag | Argument) -> Any:
    """The type that Typer parses, with its option. Numbers and choices stay text: the settings check them."""
    field = kind.model_fields[name]
    plain = _plain(field.annotation)
    if isinstance(entry, Argument):
        taken: Any = list[str] if entry.repeats else str
        return Annotated[
            taken | None, typer.Argument(metavar=entry.metavar, help=field.description, show_default=False)
        ]
    choices = _choices(field.annotation)
    taken = plain if plain in (bool, Path) else str
    metavar = entry.metavar or (f"[{'|'.join(choices)}]" if choices else _METAVARS.get(plain, "<str>"))
    option = typer.Option(
        *entry.spelled(name),
        help=_help(kind, name),
        show_default=False,
        rich_help_panel=entry.panel,
        metavar=None if plain is bool else metavar,
        path_type=str if entry.slash else None,
        autocompletion=_completion(choices) if choices else None,
    )
    return Annotated[(list[taken] if entry.repeats else taken) | None, option]


def _help(kind: type[Settings], name: str) -> str:
    """A field's docstring and, where it has one that says something, its default."""
    field = kind.model_fields[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    text = field.description or ""
    return text if default is None or default in ((), [], {}, False, "") else f"{text} (default: {_shown(default)})"


def _shown(default: Any) -> str:
    """A default as a user would type it: bytes as a size, a flag that is on as a word."""
    if default is True:
        return "on"
    return show_bytes(default) if isinstance(default, int) and default >= _A_SIZE else str(default)


def _forms(annotation: Any) -> Iterator[Any]:
    """The types in an annotation of a field, without None and metadata."""
    if get_origin(annotation) is Annotated:
        yield from _forms(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _forms(part)
    elif annotation is not NoneType:
        yield annotation


def _plain(annotation: Any) -> Any:
    """The one type of a field, or None where it has several."""
    forms = list(_forms(annotation))
    return forms[0] if len(forms) == 1 else None


def _choices(annotation: Any) -> list[str]:
    """The words that a field takes, where it takes nothing else."""
    plain = _plain(annotation)
    return [str(word) for word in get_args(plain)] if get_origin(plain) is Literal else []


def _completion(choices: list[str]) -> Callable[[str], list[str]]:
    def matching(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return matching
