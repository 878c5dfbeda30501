"""`co2s info`."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.rasters import noise, write_raster

from co2s_cli.models.manifest import Manifest

STUDENT = {
    "backbone": {"library": "timm", "name": "test_vit", "mean": [0.5] * 3, "std": [0.5] * 3},
    "taps": [0, 1, 2],
    "guidance": "implicit",
    "guidance_width": 8,
}


@pytest.fixture
def model(tmp_path):
    """A model file with a manifest of our making and one tensor."""

    def make(**facts):
        plain = {
            "classes": [{"name": "water"}, {"name": "fields"}],
            "scaling": {"low": [0, 0, 0], "high": [255, 255, 255]},
            "students": {"dino": STUDENT},
            **facts,
        }
        manifest = Manifest.model_validate(plain)
        path = tmp_path / "m.safetensors"
        metadata = {"format": "1", "manifest": manifest.model_dump_json(), "digest": "0"}
        save_file({"weight": np.zeros(3, np.float32)}, path, metadata=metadata)
        return path

    return make


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, 40, 60)), nodata=0, names=("red", "green", "blue"))


def test_a_scene_is_described(co2s, scene):
    result = co2s("info", scene)
    assert result.exit_code == 0
    for words in ("scene", "60 × 40 px", "red, green, blue", "uint8", "nodata 0", "EPSG:32633", "10 m per pixel"):
        assert words in result.stdout
    assert "fit" not in result.stdout


def test_a_border_that_the_file_does_not_declare_is_told(co2s, tmp_path):
    pixels = noise((3, 40, 60))
    pixels[:, :, 40:] = 255
    told = co2s("info", write_raster(tmp_path / "cut.tif", pixels))
    assert told.exit_code == 0
    assert "33 % of its pixels, up to a corner, are 255 in every band" in told.stdout
    declared = co2s("info", write_raster(tmp_path / "declared.tif", pixels, nodata=255))
    assert "corner" not in declared.stdout


def test_a_model_is_described(co2s, model):
    result = co2s("info", model(trained_on="made-up land", ground_resolution=0.5))
    assert result.exit_code == 0
    for words in ("model", "dino (test_vit)", "water, fields", "0 to 255", "0.5 m per pixel", "made-up land"):
        assert words in result.stdout


def test_a_pair_that_fits_says_so(co2s, scene, model):
    result = co2s("info", scene, "--model", model(ground_resolution=12))
    assert result.exit_code == 0
    assert "scene and model fit" in result.stdout


def test_a_pair_that_does_not_fit_says_every_reason_and_exits_3(co2s, tmp_path, model):
    scene = write_raster(tmp_path / "s.tif", noise((4, 9, 9), "uint16"), names=("blue", "green", "nir", "swir"))
    result = co2s("info", scene, "-m", model(ground_resolution=1))
    assert result.exit_code == 3
    for words in (
        "4 bands (blue, green, nir, swir) found",
        "known to be red",
        "samples are uint16",
        "--scale auto",
        "--res 1",
    ):
        assert words in result.stdout
    assert "3 reasons" in result.stderr


def test_json_holds_the_same(co2s, tmp_path, model):
    scene = write_raster(tmp_path / "s.tif", noise((3, 9, 9), "float32"), bare=True)
    result = co2s("info", scene, "--model", model(ground_resolution=1), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 3
    assert found["fits"] is False
    assert found["scene"]["bands"] == ["band_1", "band_2", "band_3"]
    assert found["scene"]["bounds"] is None
    assert len(found["problems"]) == 1
    assert "resolution is not known" in found["remarks"][1]
    assert found["model"]["classes"] == ["water", "fields"]


@pytest.mark.parametrize(
    ("name", "code"), [("absent.tif", 3), ("absent.safetensors", 3), ("text.tif", 3), ("text.pth", 5)]
)
def test_what_is_neither_is_refused(co2s, tmp_path, name, code):
    if name.startswith("text"):
        (tmp_path / name).write_text("nothing")
    result = co2s("info", tmp_path / name)
    assert result.exit_code == code
    assert name in result.stderr


def test_two_models_are_a_matter_of_usage(co2s, model):
    path = model()
    assert co2s("info", path, "--model", path).exit_code == 2


def test_control_characters_of_a_manifest_are_escaped(co2s, model):
    result = co2s("info", model(trained_on="land\x1b[2J", licence="free\x07"))
    assert result.exit_code == 0
    assert "land\\x1b[2J" in result.stdout
    assert not {"\x1b", "\x07"} & set(result.stdout)
