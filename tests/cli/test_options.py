"""Signatures made from settings: spellings, groups, choices, completion, and errors that name what was typed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from co2s_cli.cli import app, common, options
from co2s_cli.config import Settings, load
from co2s_cli.config.flags import Argument, Flag, all_on_command_line, as_typed


class Base(Settings):
    size: Annotated[int, Flag("--size", "-s", panel="Model")] = Field(3, ge=1)
    """Side of something."""


class Job(Base):
    scene: Annotated[str, Argument("SCENE")]
    """What to read."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """What to write."""
    mode: Annotated[Literal["fast", "slow"] | None, Flag(panel="Speed")] = None
    """How."""
    names: Annotated[tuple[str, ...], Flag(panel="Input", repeats=True)] = ()
    fuse: Annotated[bool, Flag("--fuse/--no-fuse", panel="Model")] = True
    """Mix."""
    room: Annotated[int, Flag(panel="Speed")] = 4_000_000_000
    """Memory."""
    hidden: int = 1
    """Only a file sets it."""
    size: int = Field(7, ge=1)
    """Side, seven if not given."""


def run(*arguments: str) -> tuple[str, dict[str, object]]:
    small, seen = typer.Typer(cls=common.Co2sGroup), {}

    @small.callback()
    def main() -> None:
        """A group."""

    @options.command(small, "job", Job, example="co2s job a.tif --out b")
    def job(flags: dict[str, object], as_json: options.Json = False) -> None:
        """Do it."""
        seen.update(flags, as_json=as_json)
        load(Job, None, flags)

    result = CliRunner().invoke(small, ["job", *arguments], env={"COLUMNS": "200"})
    return result.stdout + result.stderr, seen


def test_an_option_for_one_file_is_not_given_twice():
    for words in (["--out", "b", "--output=c"], ["-o", "b", "-o", "b"]):
        text, seen = run("a.tif", *words)
        assert "--out: given 2 times, takes one file or folder" in text
        assert not seen
    assert run("a.tif", "-o", "b", "--size", "1", "-s", "2")[1]["size"] == "2"


def test_only_what_is_given_reaches_the_settings():
    assert run("a.tif", "--output", "b", "--names", "x", "--names", "y", "--no-fuse", "-s", "9")[1] == {
        "scene": "a.tif", "out": Path("b"), "names": ["x", "y"], "fuse": False, "size": "9", "as_json": False
    }  # fmt: skip


def test_a_subclass_keeps_the_flag_of_its_base_with_its_own_help_and_default():
    text, _ = run("--help")
    assert "Side, seven if not given. (default: 7)" in text
    assert "Memory. (default: 4 GB)" in text
    assert "Mix. (default: on)" in text
    assert as_typed(Job, "size") == "--size"
    assert "hidden" not in text


def test_help_has_groups_choices_and_an_example():
    text, _ = run("--help")
    for words in ("Input", "Output", "Model", "Speed", "[fast|slow]", "Example: co2s job a.tif --out b"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.tif"], "error: --out is missing"),
        (["--out", "b"], "error: SCENE is missing"),
        (["a.tif", "--out", "b", "--mode", "quick"], "error: --mode: found 'quick', wants fast or slow"),
        (["a.tif", "--out", "b", "-s", "much"], "error: --size: found 'much', wants a whole number"),
        (["a.tif", "--out", "b", "-s", "0"], "error: --size: found 0, wants a number ≥ 1"),
        (["a.tif", "--tiel", "3"], "error: No such option: --tiel"),
        (["a.tif", "--out"], "error: Option '--out' requires an argument"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(arguments, words):
    text, _ = run(*arguments)
    assert text.startswith(words)
    assert len(text.splitlines()) == 2  # and a hint


def test_the_shell_completes_choices():
    environment = {
        **os.environ, "_CO2S_COMPLETE": "complete_bash", "COMP_WORDS": "co2s predict --fusion c", "COMP_CWORD": "3"
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "co2s_cli"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["confident", "clip"]


def test_no_spelling_is_used_twice_in_a_command():
    kinds = [command.callback.__wrapped__ for command in app.registered_commands]
    assert len(kinds) >= 9
    for command in app.registered_commands:
        spelled = [text for option in typer.main.get_command_from_info(
            command, pretty_exceptions_short=True, rich_markup_mode=None
        ).params for text in (*option.opts, *option.secondary_opts)]  # fmt: skip
        assert len(spelled) == len(set(spelled))


def test_every_flag_belongs_to_a_known_group():
    kinds = [Settings]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    for kind in kinds:
        declared = [name for name in kind.model_fields if as_typed(kind, name) != name]
        assert len(list(all_on_command_line(kind))) == len(declared), kind
