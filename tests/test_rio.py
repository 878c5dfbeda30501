"""`rio co2s` is `co2s`: words, exit code and streams are those of the command."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PLUGIN = PROJECT["entry-points"]["rasterio.rio_plugins"]["co2s"]
RIO = f"""
from importlib import import_module
from rasterio.rio.main import main_group
main_group.add_command(import_module("{PLUGIN.partition(":")[0]}").{PLUGIN.partition(":")[2]})
main_group(prog_name="rio")
"""


def rio(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RIO, *words], capture_output=True, text=True, check=False)


def test_the_entry_point_is_a_command_of_rio():
    module, _, name = PLUGIN.partition(":")
    assert getattr(importlib.import_module(module), name).name == "co2s"


@pytest.mark.slow
def test_words_exit_codes_and_streams_are_those_of_the_command():
    done = rio("co2s", "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "co2s")
    helped = rio("co2s", "predict", "--help")
    assert "--min-confidence" in helped.stdout
    failed = rio("co2s", "predict", "none.tif", "--out", "map.tif")
    assert failed.returncode == 3
    assert [line for line in failed.stderr.splitlines() if line.startswith("error: none.tif")]
    assert failed.stdout == ""
