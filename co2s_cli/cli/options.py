"""Build a command's options from its settings class: each field with a `Flag` or `Argument` becomes a parameter."""

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
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="More messages; -vv for debugging.")
]
Quiet = Annotated[
    int,
    typer.Option("--quiet", "-q", count=True, show_default=False, help="Fewer messages: no progress; -qq no warnings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Log = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--log",
        help="Progress on stderr. text: a bar; json: every 30 s a line with host, scene, done, Mpx/s and seconds left.",
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; options override it.")]

C = TypeVar("C", bound=Callable[..., Any])

_A_SIZE = 10**6
"""Integer defaults from here on are shown as bytes; it holds for every setting with a flag."""

_METAVARS = {int: "<int>", float: "<float>", Path: "<path>"}
"""Names of value types in `--help`, as Typer writes them."""


def command(app: typer.Typer, name: str, kind: type[Settings] | None = None, *, example: str = "") -> Callable[[C], C]:
    """Decorator that registers a function as command `name` of `app`.

    The function's parameter `flags` gets the settings of `kind` that the user gave, by field name. Its other parameters
    are further options. `-v` and `-q` are accepted after the command's name, too. `example` is a line in its help.
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
        further = [parameter for parameter in signature.parameters.values() if parameter.name != "flags"]
        verbosity = [_keyword(label, annotation, 0) for label, annotation in (("verbose", Verbose), ("quiet", Quiet))]
        entries = list(all_on_command_line(kind)) if kind else []
        run.alone = {  # type: ignore[attr-defined]
            spelling: (entry.alone, str(entry.metavar).strip("[]"))
            for field, entry in entries
            if isinstance(entry, Flag) and entry.alone
            for spelling in entry.spelled(field)
        }
        run.files = [  # type: ignore[attr-defined]
            entry.spelled(field)
            for field, entry in entries
            if kind and isinstance(entry, Flag) and not entry.repeats and _takes_path(kind, field)
        ]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[
                *generated,
                *(parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in further),
                *verbosity,
            ]
        )
        app.command(name, cls=_Command, epilog=f"Example: {example}" if example else None)(run)
        return function

    return register


class _Command(TyperCommand):
    """A command with options whose value is optional, such as `--resume` and `--resume auto`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; an option without its value gets one, so that it does not take the next argument."""
        self._refuse_repeated_files(ctx, args)
        return super().parse_args(ctx, list(_with_values(args, self.alone)))

    def _refuse_repeated_files(self, ctx: Any, args: list[str]) -> None:
        """Refuse an option for one file that is given twice: the last file would be taken without a word."""
        if ctx.resilient_parsing:  # completion in a shell: nothing is refused
            return
        options = [arg.partition("=")[0] for arg in args[: args.index("--") if "--" in args else None]]
        for spellings in getattr(self.callback, "files", ()):
            times = sum(option in spellings for option in options)
            if times > 1:
                raise typer.BadParameter(f"given {times} times, takes one file or folder", ctx, param_hint=spellings[0])

    @property
    def alone(self) -> dict[str, tuple[str, str]]:
        """By spelling of such an option: its value if none follows, and the only word that may follow as its value."""
        return getattr(self.callback, "alone", {})


def _with_values(args: list[str], alone: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """The arguments, with each option in `alone` rewritten to `--option=value`."""
    positions = iter(range(len(args)))
    for position in positions:
        value, word = alone.get(args[position], ("", ""))
        if value and args[position + 1 : position + 2] == [word]:
            value = args[next(positions)]
        yield f"{args[position]}={value}" if value else args[position]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameters(kind: type[Settings]) -> list[inspect.Parameter]:
    """A parameter for each field that the command line can set, by default None: the user did not give it."""
    return [_keyword(name, _annotation(kind, name, entry), None) for name, entry in all_on_command_line(kind)]


def _takes_path(kind: type[Settings], name: str) -> bool:
    return _single_type(kind.model_fields[name].annotation) is Path


def _annotation(kind: type[Settings], name: str, entry: Flag | Argument) -> Any:
    """The parameter's annotation for Typer. Numbers and choices are parsed as text: the settings check them."""
    field = kind.model_fields[name]
    single_type = _single_type(field.annotation)
    if isinstance(entry, Argument):
        parsed_type: Any = list[str] if entry.repeats else str
        return Annotated[
            parsed_type | None, typer.Argument(metavar=entry.metavar, help=field.description, show_default=False)
        ]
    choices = _choices(field.annotation)
    parsed_type = single_type if single_type in (bool, Path) else str
    metavar = entry.metavar or (f"[{'|'.join(choices)}]" if choices else _METAVARS.get(single_type, "<str>"))
    option = typer.Option(
        *entry.spelled(name),
        help=_help(kind, name),
        show_default=False,
        rich_help_panel=entry.panel,
        metavar=None if single_type is bool else metavar,
        path_type=str if entry.slash else None,
        autocompletion=_completion(choices) if choices else None,
    )
    return Annotated[(list[parsed_type] if entry.repeats else parsed_type) | None, option]


def _help(kind: type[Settings], name: str) -> str:
    """A field's docstring, and its default unless that is None, False or empty."""
    field = kind.model_fields[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    text = field.description or ""
    return text if default is None or default in ((), [], {}, False, "") else f"{text} (default: {_as_typed(default)})"


def _as_typed(default: Any) -> str:
    """A default as a user would type it: a number of bytes as a size, True as "on"."""
    if default is True:
        return "on"
    return show_bytes(default) if isinstance(default, int) and default >= _A_SIZE else str(default)


def _types_in(annotation: Any) -> Iterator[Any]:
    """The types in a field's annotation, without None and metadata."""
    if get_origin(annotation) is Annotated:
        yield from _types_in(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _types_in(part)
    elif annotation is not NoneType:
        yield annotation


def _single_type(annotation: Any) -> Any:
    """The only type of a field, or None if it has several."""
    types = list(_types_in(annotation))
    return types[0] if len(types) == 1 else None


def _choices(annotation: Any) -> list[str]:
    """The words that a field accepts; empty if it accepts other values, too."""
    single_type = _single_type(annotation)
    return [str(word) for word in get_args(single_type)] if get_origin(single_type) is Literal else []


def _completion(choices: list[str]) -> Callable[[str], list[str]]:
    """A function for shell completion: the choices that start with what was typed."""

    def matching(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return matching
