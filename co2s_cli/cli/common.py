"""Shared by all commands: errors are turned into messages and exit codes, results are printed."""

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
"""Base class of all errors in the use of the command line, which Typer does not export itself."""


class Co2sGroup(TyperGroup):
    """The command group: runs the command and maps each `Co2sError` to its exit code."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the options before the command's name."""
        with _errors_as_exit_codes():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its errors are reported as by `_errors_as_exit_codes`."""
        with _errors_as_exit_codes():
            return super().invoke(ctx)


@contextlib.contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Report errors that a user can mend as one line and a hint on stderr, and exit with their code."""
    try:
        yield
    except Co2sError as error:
        report(error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        report(InterruptError("interrupted"))
        raise typer.Exit(InterruptError.exit_code) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # raised wherever a path is accessed first: translated here for all
            raise
        report(InputError(f"{shown(error.filename)}: is too long for the name of a file"))
        raise typer.Exit(InputError.exit_code) from error
    except _UsageError as error:
        if "NoArgs" in type(error).__name__:  # a bare `co2s` shows its help
            raise
        report(_usage_error(error))
        raise typer.Exit(ConfigError.exit_code) from error


def _usage_error(error: Any) -> ConfigError:
    """A `ConfigError` with the message of Typer's usage error."""
    command = error.ctx.command_path if error.ctx else "co2s"
    return ConfigError(error.format_message().rstrip("."), hint=f"{command} --help")


def report(error: Co2sError) -> None:
    """Print the error on stderr: one line with its message, and one with its hint if it has one."""
    from rich.console import Console  # slow to import: only for errors
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    with contextlib.suppress(OSError):  # stderr may be closed; the exit code still tells of the error
        console.print(Text("error: ", style="bold red").append(shortened(printable(error.message)), style="not bold"))
        if error.hint:
            console.print(Text("hint: ", style="bold").append(shortened(printable(error.hint)), style="not bold"))


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines with aligned columns."""
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
    """`value` as types that JSON can hold; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None  # NaN and infinities differ from 0 here
    return value if isinstance(value, str | int | bool | None) else str(value)
