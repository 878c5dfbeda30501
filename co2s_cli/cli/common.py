"""What all commands share: the one place where errors become exit codes, and how results are printed."""

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from co2s_cli.errors import Co2sError, ConfigError, InputError, InterruptError, printable, shortened, shown

_UsageError: Any = typer.BadParameter.__mro__[1]
"""Every wrong use of the command line; Typer exports only this kind of it."""


class Co2sGroup(TyperGroup):
    """The command group: runs the command and maps each `Co2sError` to its exit code."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read what stands before the command's name."""
        with _told():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that a user can mend becomes one line, a hint and its exit code."""
        with _told():
            return super().invoke(ctx)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors that a user can mend become one line, a hint and an exit code."""
    try:
        yield
    except Co2sError as error:
        report(error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        report(InterruptError("interrupted"))
        raise typer.Exit(InterruptError.exit_code) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # any command's first look at a path says this
            raise
        report(InputError(f"{shown(error.filename)}: is too long for the name of a file"))
        raise typer.Exit(InputError.exit_code) from error
    except _UsageError as error:
        if "NoArgs" in type(error).__name__:  # a bare `co2s` shows its help
            raise
        report(_misused(error))
        raise typer.Exit(ConfigError.exit_code) from error


def _misused(error: Any) -> ConfigError:
    """Typer's error of usage as ours."""
    command = error.ctx.command_path if error.ctx else "co2s"
    return ConfigError(error.format_message().rstrip("."), hint=f"{command} --help")


def report(error: Co2sError) -> None:
    """One line that says what is wrong, one that says what to do."""
    from rich.console import Console  # only where something went wrong
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    with contextlib.suppress(OSError):  # nobody reads: the exit code says it
        console.print(Text("error: ", style="bold red").append(shortened(printable(error.message)), style="not bold"))
        if error.hint:
            console.print(Text("hint: ", style="bold").append(shortened(printable(error.hint)), style="not bold"))


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows of cells as aligned lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row("", *(escape(printable(cell).replace("\n", "\\n")) for cell in row))
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
