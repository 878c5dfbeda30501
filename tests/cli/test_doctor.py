"""`co2s doctor` from the command line: every check is told, and what is missing decides the exit code."""

import json

import pytest

from co2s_cli.health.finding import Finding
from co2s_cli.jobs import doctor


def broken():
    """A check whose library does not load."""
    raise OSError("libcudart.so.13: cannot open shared object file\nand more")
    yield


def lacking():
    yield Finding("GDAL", "missing", "no driver COG, for maps", "install it")


def test_every_check_is_told(co2s):
    result = co2s("doctor", "--no-speed", "--json")
    assert result.exit_code == 0, result.output
    names = [finding["name"] for finding in json.loads(result.stdout)["findings"]]
    wanted = [
        "co2s",
        "Python",
        "torch",
        "networks",
        "GPU",
        "bf16",
        "cores",
        "memory",
        "disk",
        "GDAL",
        "PROJ",
        "weights",
    ]
    assert list(dict.fromkeys(names)) == wanted


@pytest.mark.parametrize(("check", "said"), [(broken, "OSError: libcudart.so.13"), (lacking, "no driver COG")])
def test_what_is_missing_ends_in_an_error_after_all_else_is_told(co2s, monkeypatch, check, said):
    monkeypatch.setattr(doctor, "CHECKS", (check, doctor.software.python))
    result = co2s("doctor", "--no-speed")
    assert result.exit_code == 6
    assert said in result.stdout
    assert "Python" in result.stdout
    assert result.stderr.startswith("error: missing: ")
    assert "hint: " in result.stderr
