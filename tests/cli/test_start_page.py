"""docs/start.md is true: its commands run in their order as they are written, and what it shows is what they print."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "start.md"
SHORT = {
    "train": ("--steps", "2", "--set", "crop=64", "--set", "batch=1", "--set", "workers=1"),
    "doctor": ("--no-speed",),
}
"""Words that keep the test short."""


def commands() -> list[tuple[list[str], str]]:
    """Words and shown output of each command of the page."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    parts = [part.partition("\n") for block in blocks for part in re.split(r"^\$ co2s ", block, flags=re.MULTILINE)[1:]]
    return [(line.split(), shown) for line, _, shown in parts]


@pytest.mark.slow
def test_the_commands_of_the_page_run_and_print_what_it_shows(co2s, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, shown in commands():
        if words[0] == "fetch":  # wants a network
            continue
        result = co2s(*words, *SHORT.get(words[0], ()))
        assert result.exit_code == 0, f"{words}: {result.output}"
        assert not shown or result.stdout == shown, words


def test_the_page_names_every_step():
    assert [words[0] for words, _ in commands()] == [
        "doctor", "sample", "init", "train", "train", "fetch", "predict", "evaluate", "vectorize",
    ]  # fmt: skip
