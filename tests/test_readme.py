"""The README's commands do what it shows: every block runs, in order, as written, and prints the lines below it."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
ELSEWHERE = ("make ", "pip install ")
"""What sets a machine up is not run again by a test."""


def shown() -> list[tuple[str, str]]:
    """Kind (`sh` or `text`) and content of each block of the part that is to be tried."""
    part = README.split("## Which preset when")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


def plain(text: str) -> set[str]:
    """The lines without their numbers and blanks, which may be others on another machine."""
    return {" ".join(re.sub(r"[\d.,:]*\d|–", "#", line).split()) for line in text.splitlines()}


def test_every_command_is_one_that_is_run():
    lines = [line for kind, block in shown() if kind == "sh" for line in block.splitlines()]
    assert all(line.startswith(("co2s ", *ELSEWHERE)) for line in lines)


@pytest.mark.slow
def test_the_commands_run_in_order_and_print_what_is_shown(co2s, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = ""
    for kind, block in shown():
        if kind == "text":
            assert plain(block) - {"", "…"} <= plain(printed), printed
            continue
        printed = ""
        for line in block.splitlines():
            if line.startswith(ELSEWHERE):
                continue
            done = co2s(*shlex.split(line)[1:])
            assert done.exit_code == 0, done.output
            printed += done.output
