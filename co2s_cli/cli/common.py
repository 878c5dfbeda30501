"""What all commands share: flags made from settings, verbosity, and the one place where errors become exit codes."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from co2s_cli import log
from co2s_cli.config import Settings
from co2s_cli.errors import Co2sError, InterruptError

Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; twice for debugging.")
]
Quiet = Annotated[
    int,
    typer.Option("--quiet", "-q", count=True, show_default=False, help="Say less: no progress, then no warnings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; flags win over it.")]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Replace outputs that exist.")]

C = TypeVar("C", bound=Callable[..., Any])


class Co2sGroup(TyperGroup):
    """The command group: runs the command and maps each `Co2sError` to its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that a user can mend becomes one line, a hint and its exit code."""
        try:
            return super().invoke(ctx)
        except Co2sError as error:
            report(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            report(InterruptError("interrupted"))
            raise typer.Exit(InterruptError.exit_code) from error


def report(error: Co2sError) -> None:
    """One line that says what is wrong, one that says what to do."""
    from rich.console import Console  # only where something went wrong
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(error.message, style="not bold"))
    if error.hint:
        console.print(Text("hint: ", style="bold").append(error.hint, style="not bold"))


def command(app: typer.Typer, name: str, *, shared: Mapping[str, Any] | None = None) -> Callable[[C], C]:
    """Register a function as command `name`; every command takes `-v` and `-q` after its name too.

    `shared` are annotations of options by name, which the function takes as `**flags`.
    """

    def register(function: C) -> C:
        @functools.wraps(function)
        def run(*, verbose: int, quiet: int, **arguments: Any) -> Any:
            if verbose != quiet:
                log.setup(log.verbosity() + verbose - quiet)
            return function(**arguments)

        signature = inspect.signature(function, eval_str=True)
        own = [part for part in signature.parameters.values() if part.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [_option(label, None, kind) for label, kind in (shared or {}).items()]
        loudness = [_option(label, 0, kind) for label, kind in (("verbose", Verbose), ("quiet", Quiet))]
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in (*own, *more, *loudness)]
        )
        app.command(name)(run)
        return function

    return register


def _option(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flags(kind: type[Settings], *names: str) -> dict[str, Any]:
    """Annotations of options for fields of `kind`, by name; a switch only turns on."""
    made = {}
    for name in names:
        wanted = kind.model_fields[name].annotation
        taken: Any = next((plain for plain in (bool, int, Path) if wanted in (plain, plain | None)), str)
        made[name] = Annotated[taken | None, flag(kind, name, f"--{name.replace('_', '-')}")]
    return made


def flag(kind: type[Settings], name: str, *spellings: str, **options: Any) -> Any:
    """A Typer option for field `name` of `kind`: help and default are the field's own."""
    field = kind.model_fields[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    text = field.description or ""
    if default is not None and default not in ((), [], {}, False, ""):
        text += f" (default: {default})"
    return typer.Option(*(spellings or (f"--{name.replace('_', '-')}",)), help=text, show_default=False, **options)


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows of cells as aligned lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row("", *(escape(cell) for cell in row))
    console = Console(width=10_000, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return [line.rstrip() for line in captured.get().splitlines()]


def echo_result(result: Any, *, as_json: bool, text: str) -> None:
    """Print a job's result on stdout: `text` for people and pipes, or the whole result as JSON."""
    if as_json or text:
        typer.echo(json.dumps(plain(result), indent=2, allow_nan=False) if as_json else text)


def plain(value: Any) -> Any:
    """`value` as JSON knows it; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if isinstance(value, str | int | bool | None) else str(value)
