"""The command group: quick help, versions, verbosity, and one place where errors become exit codes."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from co2s_cli import __version__, errors
from co2s_cli.cli import app, common, options

HEAVY = ("torch", "rasterio", "timm", "open_clip", "geopandas", "shapely", "pyogrio", "pandas", "matplotlib")
COMMANDS = [command.name for command in app.registered_commands]


def imported_by(code: str) -> set[str]:
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".", maxsplit=1)[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    loaded = imported_by(f"from co2s_cli.cli import app; app({arguments!r})")
    assert not loaded & set(HEAVY)


def test_the_package_imports_nothing_heavy():
    assert not imported_by("import co2s_cli") & {*HEAVY, "numpy", "typer", "pydantic"}


def test_every_command_has_help(co2s):
    for name in COMMANDS:
        result = co2s(name, "--help")
        assert result.exit_code == 0
        assert "--verbose" in result.stdout
        assert "None" not in result.stdout


def test_the_version_is_printed(co2s):
    assert co2s("--version").stdout.strip() == f"co2s {__version__}"


def test_python_dash_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "co2s_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"co2s {__version__}"


def test_an_unknown_command_is_a_usage_error(co2s):
    assert co2s("predcit").exit_code == 2


CODES = {
    errors.ConfigError: 2, errors.InputError: 3, errors.OutputError: 4, errors.ModelError: 5,
    errors.ResourceError: 6, errors.PartialError: 7, errors.InterruptError: 130,
}  # fmt: skip


def failing_app(error: BaseException) -> typer.Typer:
    small = typer.Typer(cls=common.Co2sGroup)

    @small.callback()
    def main() -> None:
        """A group."""

    def fail() -> None:
        raise error

    options.command(small, "fail")(fail)
    return small


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_error_has_its_exit_code_one_line_and_a_hint(kind, code):
    result = CliRunner().invoke(failing_app(kind("scene.tif: bad", hint="do this")), ["fail"])
    assert result.exit_code == code
    assert result.stderr == "error: scene.tif: bad\nhint: do this\n"
    assert result.stdout == ""


def test_a_bug_is_exit_code_1_with_its_traceback():
    result = CliRunner().invoke(failing_app(ZeroDivisionError("bug")), ["fail"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_control_c_is_130():
    assert CliRunner().invoke(failing_app(KeyboardInterrupt()), ["fail"]).exit_code == 130


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["show"], {"info"}),
        (["-v", "show"], {"info", "debug", "other"}),
        (["show", "-v"], {"info", "debug", "other"}),
        (["-v", "show", "-v", "-q"], {"info", "debug", "other"}),
        (["-q", "show"], set()),
        (["show", "-q"], set()),
        (["-v", "show", "-q"], {"info"}),
    ],
)
def test_verbosity_counts_before_and_after_the_command(arguments, shown):
    import logging

    from co2s_cli import log

    small = typer.Typer(cls=common.Co2sGroup)

    @small.callback()
    def main(verbose: options.Verbose = 0, quiet: options.Quiet = 0) -> None:
        log.setup(verbose - quiet)

    def show() -> None:
        logging.getLogger("co2s_cli.room").info("info")
        logging.getLogger("co2s_cli.room").debug("debug")
        logging.getLogger("rasterio").warning("other")

    options.command(small, "show")(show)
    result = CliRunner().invoke(small, arguments)
    assert result.exit_code == 0
    assert set(result.stderr.split()) == shown
    assert result.stdout == ""


def test_plain_data_of_a_result():
    from dataclasses import dataclass
    from pathlib import Path

    @dataclass
    class Part:
        value: float

    @dataclass
    class Whole:
        path: Path
        parts: tuple[Part, ...]
        flag: bool

    whole = Whole(Path("a/b"), (Part(1.5), Part(float("nan"))), True)
    assert common.plain(whole) == {"path": "a/b", "parts": [{"value": 1.5}, {"value": None}], "flag": True}
