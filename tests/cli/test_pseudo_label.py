"""The command line of pseudo-label: what is said where, and which exit code."""

import json

import numpy as np
import pytest
import yaml
from support.models import save_tiny
from support.rasters import noise, write_raster


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, 70, 90)))


def test_the_data_yaml_is_named_on_stdout_and_all_else_on_stderr(co2s, tmp_path, model, scene):
    done = co2s("pseudo-label", scene, "--out", tmp_path / "out", "--model", model, "--threshold", 0.5)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out' / 'data.yaml'}\n"
    assert "pixels labelled" in done.stderr


def test_json_is_the_whole_result(co2s, tmp_path, model, scene):
    done = co2s("pseudo-label", scene, "-o", tmp_path / "out", "-m", model, "--threshold-per-class", "auto",
                "--share", 0.25, "--agree", "both", "--json")  # fmt: skip
    result = json.loads(done.stdout)
    assert result["total"]["labelled"] == sum(one["pixels"] for one in result["total"]["classes"].values()) > 0
    assert result["made"][0]["state"] == "made"
    assert result["total"]["precision"] is None


def test_thresholds_by_class_on_the_command_line_and_in_a_file(co2s, tmp_path, model, scene):
    config = tmp_path / "rule.yaml"
    config.write_text(f"model: {model}\nthreshold: 0.5\nthreshold-per-class: {{water: 0.25, town: 0.75}}\nshare: 0.5\n")
    assert co2s("pseudo-label", scene, "-o", tmp_path / "out", "--config", config).exit_code == 2
    config.write_text(config.read_text().replace("share: 0.5\n", ""))
    flags = ["--threshold-per-class", "water=0.125", "--threshold-per-class", "field=1"]
    for place, (more, wanted) in enumerate([([], [0.25, 0.5, 0.5, 0.75]), (flags, [0.125, 1, 0.5, 0.5])]):
        done = co2s("pseudo-label", scene, "-o", tmp_path / f"{place}", "--config", config, "--json", *more)
        classes = json.loads(done.stdout)["total"]["classes"]
        assert [one["threshold"] for one in classes.values()] == wanted


def test_some_scenes_failing_is_exit_7_and_the_data_yaml_holds_the_others(co2s, tmp_path, model, scene):
    (tmp_path / "broken.tif").write_text("no raster")
    done = co2s("pseudo-label", scene, tmp_path / "broken.tif", "-o", tmp_path / "out", "-m", model, "--threshold", 0)
    assert done.exit_code == 7
    assert "1 of 2 scenes failed" in done.stderr
    assert len(yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["labeled"]) == 1


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--threshold", "1.5"], 2, "threshold"),
        (["--threshold", "0.9", "--threshold-per-class", "auto"], 2, "exclude each other"),
        (["--threshold-per-class", "lake=0.5"], 2, "lake: no class of the model"),
        (["--threshold-per-class", "water"], 2, "wants auto, or NAME=VALUE"),
        (["--threshold-per-class", "water=2"], 2, "water"),
        (["--share", "0.5"], 2, "--share belongs to"),
        (["--agree", "all"], 2, "agree"),
        (["--min-area", "-1"], 2, "--min-area"),
        (["--weight", "heavy"], 2, "weight"),
        (["--keep-labels", "gone.yaml"], 3, "gone.yaml"),
        (["--truth", "gone.tif"], 3, "gone.tif: no such label file"),
        (["--mem-limit", "10MB"], 6, "too small"),
    ],
)
def test_bad_flags_have_one_line_and_their_exit_code(co2s, tmp_path, model, scene, flags, code, words):
    done = co2s("pseudo-label", scene, "-o", tmp_path / "out", "-m", model, *flags)
    assert done.exit_code == code, done.stderr
    assert words in " ".join(done.stderr.split())
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "out" / "data.yaml").exists()


def test_a_rule_for_two_students_on_a_model_of_one_is_exit_2(co2s, tmp_path, scene):
    single = save_tiny(tmp_path / "one.safetensors", students=("clip",))
    done = co2s("pseudo-label", scene, "-o", tmp_path / "out", "-m", single, "--agree", "surer")
    assert done.exit_code == 2
    assert "--agree any" in done.stderr


def test_a_round_that_is_whole_is_not_written_over(co2s, tmp_path, model, scene):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.yaml").write_text("mine")
    for more in ([], ["--resume"]):
        done = co2s("pseudo-label", scene, "-o", tmp_path / "out", "-m", model, *more)
        assert done.exit_code == 4
        assert (tmp_path / "out" / "data.yaml").read_text() == "mine"


def test_labels_on_another_grid_are_exit_3(co2s, tmp_path, model, scene):
    write_raster(tmp_path / "truth.tif", np.zeros((9, 9), np.uint8))
    done = co2s("pseudo-label", scene, "-o", tmp_path / "out", "-m", model, "--truth", tmp_path / "truth.tif")
    assert done.exit_code == 3
    assert "9 × 9 pixels" in done.stderr
    assert not list((tmp_path / "out" / "candidates").iterdir())
