"""The command line of predict: what is said where, and which exit code."""

import json

import pytest
import rasterio
import torch
from support.models import save_tiny
from support.rasters import noise, write_raster

from co2s_cli.models import weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, 70, 90)))


def test_the_map_is_named_on_stdout_and_all_else_on_stderr(co2s, tmp_path, model, scene):
    done = co2s("predict", scene, "--out", tmp_path / "map.tif", "--model", model)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'map.tif'}\n"
    assert "running on" in done.stderr
    assert "no pixel has a class" not in done.stderr


def test_a_scene_and_a_map_may_stand_side_by_side(co2s, tmp_path, model, scene):
    assert co2s("predict", scene, tmp_path / "map.tif", "-m", model, "-b", "3", "-b", "2,1").exit_code == 0
    assert (tmp_path / "map.tif").exists()


def test_an_existing_second_file_is_a_scene_never_an_output(co2s, tmp_path, model, scene):
    other = write_raster(tmp_path / "other.tif", noise((3, 70, 90)))
    done = co2s("predict", scene, other, "--model", model, "--overwrite")
    assert done.exit_code == 2
    assert "out" in done.stderr


def test_the_default_model_is_named_with_what_it_was_trained_on(co2s, tmp_path, model, scene, monkeypatch):
    monkeypatch.setenv("CO2S_MODEL", str(model))
    done = co2s("predict", scene, "-o", tmp_path / "map.tif")
    assert done.exit_code == 0
    assert "model: tiny.safetensors, trained on nothing" in done.stderr


@pytest.mark.slow
def test_json_is_the_whole_result(co2s, tmp_path, model, scene):
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, "--json", "--patch-size", 32,
                "--batch-size", "auto")  # fmt: skip
    (made,) = json.loads(done.stdout)["maps"]
    assert made["state"] == "made"
    assert sum(made["pixels"].values()) == 70 * 90


def test_a_dry_run_in_json(co2s, tmp_path, model, scene):
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, "--dry-run", "--json")
    (estimate,) = json.loads(done.stdout)["estimates"]
    assert estimate["windows"] == 4
    assert not (tmp_path / "map.tif").exists()


def test_json_counts_pixels_by_class_and_those_without(co2s, tmp_path, model, scene):
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, "--min-confidence", 0.5, "--json")
    (told,) = json.loads(done.stdout)["maps"]
    with rasterio.open(tmp_path / "map.tif") as dataset:
        values = dataset.read(1)
    assert "" not in told["pixels"]
    assert told["pixels_without_class"] == (values == 255).sum()
    assert sum(told["pixels"].values()) == (values != 255).sum()


@pytest.mark.parametrize("flags", [(), ("--min-confidence", 1)], ids=["overflow", "never so sure"])
def test_a_map_without_any_class_is_warned_of(co2s, tmp_path, model, scene, flags):
    if not flags:  # finite weights, of which the logits are not
        pair = weights.load(model)
        with torch.no_grad():
            for student in pair.students.values():
                student.decoder.head.weight.fill_(3e38)
        model = tmp_path / "large.safetensors"
        weights.save(pair, model)
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, *flags)
    assert done.exit_code == 0, done.stderr
    assert "map.tif: no pixel has a class" in done.stderr


def test_more_is_said_of_the_scene_and_the_plan(co2s, tmp_path, model, scene):
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, "-v")
    assert "bands red, green, blue" in done.stderr
    assert "values that become 0 and 1" in done.stderr
    assert "windows side by side" in done.stderr


def test_some_scenes_failing_is_exit_7_with_a_list_at_the_end(co2s, tmp_path, model, scene):
    (tmp_path / "broken.tif").write_text("no raster")
    (tmp_path / "maps").mkdir()
    done = co2s("predict", scene, tmp_path / "broken.tif", "-o", tmp_path / "maps", "--model", model)
    assert done.exit_code == 7
    assert done.stdout == f"{tmp_path / 'maps' / 'scene.tif'}\n"
    assert "1 of 2 scenes failed" in done.stderr
    assert "broken.tif" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--tile", "3"], 2),
        (["--overlap", "1"], 2),
        (["--bounds", "1,2,3"], 2),
        (["--mem-limit", "lots"], 2),
        (["--nodata", "some"], 2),
        (["--precision", "int4"], 2),
        (["--device", "toaster"], 2),
        (["--co", "COLOUR=RED"], 2),
        (["--confidence", "MAP"], 2),
        (["--aoi", "none.gpkg"], 3),
        (["--device", "cuda:99"], 6),
        (["--mem-limit", "10MB"], 6),
    ],
)
def test_bad_flags_have_one_line_and_their_exit_code(co2s, tmp_path, model, scene, flags, code):
    flags = [tmp_path / "map.tif" if flag == "MAP" else flag for flag in flags]
    done = co2s("predict", scene, "-o", tmp_path / "map.tif", "--model", model, *flags)
    assert done.exit_code == code, done.stderr
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "map.tif").exists()
    assert not (tmp_path / "map.tif.parts").exists()


def test_settings_may_come_from_a_file(co2s, tmp_path, model, scene):
    config = tmp_path / "predict.yaml"
    config.write_text(f"model: {model}\ntile: 32\nmin-confidence: 0.5\nbands: [3, 2, 1]\n")
    assert co2s("predict", scene, "-o", tmp_path / "map.tif", "--config", config).exit_code == 0
    with rasterio.open(tmp_path / "map.tif") as dataset:
        told = json.loads(dataset.tags()["CO2S_SETTINGS"])
    assert (told["tile"], told["bands"]) == (32, [3, 2, 1])


def test_a_share_of_the_scenes_and_one_without_any(co2s, tmp_path, model, monkeypatch):
    scenes = [write_raster(tmp_path / f"{name}.tif", noise((3, 40, 40))) for name in "ab"]
    maps = tmp_path / "maps"
    maps.mkdir()
    command = ("predict", *scenes, "-o", maps, "-m", model)
    done = co2s(*command, "--shard", "2/3")
    assert (done.exit_code, done.stdout) == (0, f"{maps / 'b.tif'}\n")
    assert "share 2 of 3: 1 of 2 scenes" in done.stderr
    done = co2s(*command, "--shard", "3/3")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "share 3 of 3: 0 of 2 scenes" in done.stderr
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert co2s(*command, "--shard", "auto").exit_code == 2
    assert co2s(*command, "--shard", "auto/2").stdout == f"{maps / 'a.tif'}\n"
