"""Settings: defaults < YAML < flags, and one error that names every bad key."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import Field, model_validator

from co2s_cli.config import Settings, given, load, train
from co2s_cli.config.units import parse_bytes, parse_whole_numbers, show_bytes
from co2s_cli.errors import ConfigError, InputError


class Job(Settings):
    scene: Path
    tile: int = Field(512, gt=0)
    """Window size."""
    overlap: float = Field(0.25, ge=0, lt=1)


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_yaml_and_yaml_over_defaults(tmp_path):
    config = write(tmp_path, "tile: 64\noverlap: 0.5\n")
    settings = load(Job, config, given(scene="a.tif", tile=128, overlap=None))
    assert (settings.scene, settings.tile, settings.overlap) == (Path("a.tif"), 128, 0.5)
    assert load(Job, None, given(scene="a.tif")).tile == 512


def test_dashes_and_underscores_are_one(tmp_path):
    class Dashed(Settings):
        mem_limit: int = 1

    assert load(Dashed, write(tmp_path, "mem-limit: 3"), {}).mem_limit == 3


def test_one_error_names_every_bad_key(tmp_path):
    config = write(tmp_path, "tile: -3\ncolour: red\noverlap: much\n")
    with pytest.raises(ConfigError) as caught:
        load(Job, config, {})
    for part in ("job.yaml", "tile", "colour: no such setting", "overlap", "scene is missing", "found -3"):
        assert part in caught.value.message


@pytest.mark.parametrize(("text", "words"), [("- a\n- b", "found list"), ("a: [1", "is not YAML"), ("7", "found int")])
def test_what_is_no_settings_file_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load(Job, write(tmp_path, text), {})


def test_a_missing_settings_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load(Job, tmp_path / "none.yaml", {})


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Job(scene="a.tif").tile = 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("4GB", 4 * 10**9),
        ("4g", 4 * 10**9),
        ("512 MB", 512 * 10**6),
        ("2GiB", 2 * 2**30),
        ("1000", 1000),
        (77, 77),
        ("0.5k", 500),
    ],
)
def test_sizes_are_read_as_people_write_them(text, wanted):
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "lots", "4 parsecs", "-1GB", "GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="wants a size"):
        parse_bytes(text)


@for_all(st.integers(1, 999 * 10**12))
@example(999_500_000)
def test_a_shown_size_is_read_back_to_three_digits(count):
    assert parse_bytes(show_bytes(count)) == pytest.approx(count, rel=0.006)


class Several(Settings):
    """Settings of several forms, and two that do not go together."""

    threshold: float = Field(0.5, ge=0, le=1)
    rule: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"

    @model_validator(mode="after")
    def _apart(self) -> "Several":
        if self.rule == "auto" and self.threshold == 0:
            raise ValueError("rule auto wants a threshold")
        return self


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 0}, "rule auto wants a threshold"),
        ({"rule": 2}, "rule: found 2, wants auto or a number ≤ 1"),
        ({"treshold": 0.2}, "treshold: no such setting, threshold is meant?"),
        ({"colour": 0.2}, "colour: no such setting; there are threshold, rule"),
    ],
)
def test_what_is_wrong_is_one_phrase_without_insides(values, words):
    with pytest.raises(ConfigError) as caught:
        load(Several, None, values)
    assert str(caught.value) == words


class Inner(Settings):
    image: str
    weights: float | Path | None = None


class Outer(Settings):
    entries: tuple[Inner, ...] = Field(min_length=1)
    val: tuple[Inner, ...] | float = 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("entries: [{image: a, wieghts: 1}]", "entries.0.wieghts: no such setting, weights is meant?"),
        ("entries: [{}]", "entries.0.image is missing"),
        (
            "entries: [{image: a}]\nval: [{imge: b}]",
            "val.0.image is missing; val.0.imge: no such setting, image is meant?",
        ),
        ("entries: []", "entries: found [], wants a list of at least 1"),
        ("entries: [7]", "entries.0: found 7, wants lines of key: value"),
    ],
)
def test_keys_within_keys_are_named_with_the_nearest_right_one(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load(Outer, write(tmp_path, text), {})
    assert caught.value.message == f"{tmp_path / 'job.yaml'}: {words}"
    assert caught.value.hint is None


def test_values_in_messages_are_short_and_without_control_characters(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(Job, None, {"scene": "a", "tile": "\x1b[31m" + "9" * 5000})
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 150


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tile: [" + "*a, " * 101 + "]\nscene: &a 1", "aliases|undefined"),
        ("scene: &a x\ntile: [" + "*a, " * 101 + "]", "more than 100 aliases"),
        ("tile: " + "[" * 51 + "]" * 51, "more than 50 levels of nesting"),
        ("tile: " + "[" * 100_000, "more than 50 levels of nesting"),
        ("tile: " + "9" * 21, "more than 20 digits"),
        ("tile: 0x" + "f" * 5000, "more than 20 digits"),
        ("tile: 3\ntile: 4", "'tile' is given twice"),
        ("entries: {a: 1, a: 2}", "'a' is given twice"),
        ("? [a]\n: 1", "is not YAML"),
        ("tile: 2026-99-99", "is not YAML"),
        ("tile: !!bool x", "is not YAML"),
        ("tile: !!timestamp x", "is not YAML"),
        ("tile: !!int ''", "is not YAML"),
        ("b0: &b0 {a: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*b{n - 1}, *b{n - 1}]}}\n" for n in range(1, 30)), "keys"),
    ],
)
def test_hostile_yaml_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load(Job, write(tmp_path, text), {})
    assert len(caught.value.message) < 400


def test_only_regular_files_of_some_size_are_read_as_yaml(tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load(Job, path, {})
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(InputError, match="at most 10000000"):
        load(Job, tmp_path / "large.yaml", {})


def test_a_run_that_began_with_a_model_at_an_address_is_resumed_without_fetching_it(tmp_path):
    (tmp_path / "config.yaml").write_text("init: https://127.0.0.1:9/model.safetensors\nsteps: 10\n")
    assert str(train.resumed(tmp_path, {}, []).init).startswith("https:/")


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", 0.5), ("threshold", 0.5), ("seed", 1), ("batch", 1), ("steps", 11), ("method", "fixmatch"), ("ema", 0.9)],
)
def test_a_resumed_run_refuses_other_numbers(tmp_path, key, value):
    (tmp_path / "config.yaml").write_text("lr: 0.001\nsteps: 10\n")
    assert train.resumed(tmp_path, {"workers": 1, "stop_after": 3}, []).stop_after == 3
    with pytest.raises(ConfigError, match=f"--resume: {key} is"):
        train.resumed(tmp_path, {key: value}, [])


@pytest.mark.parametrize(
    ("given", "read"),
    [(None, None), ("none", []), ("0", [0]), ("0, 99", [0, 99]), (["0", "1,-2"], [0, 1, -2]), (7, [7]), ([], [])],
)
def test_whole_numbers_are_read_as_they_are_typed(given, read):
    assert parse_whole_numbers(given) == read


@pytest.mark.parametrize("given", ["x", "0.5", [0.5], [True], "0,none", "", "9" * 30])
def test_what_is_no_whole_number_is_refused(given):
    with pytest.raises(ValueError, match="wants whole numbers"):
        parse_whole_numbers(given)
