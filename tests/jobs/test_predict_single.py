"""Maps by a model of a single student: any patch, any tile, and nothing asked of a second one."""

import json
import threading

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from support.models import drawn_single
from support.rasters import noise, write_raster

from co2s_cli.inference.products import LandCover
from co2s_cli.models import weights

NAMES = ("tiny-student", "tiny-student14")


@pytest.fixture(scope="module", params=NAMES)
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / f"{request.param}.safetensors"
    weights.save(drawn_single(request.param, align="second_pass"), path)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    smooth = F.interpolate(torch.from_numpy(noise((1, 3, 12, 14))).float(), (150, 170), mode="bicubic").clamp(0, 255)
    return write_raster(tmp_path_factory.mktemp("scene") / "scene.tif", smooth[0].byte().numpy())


def made(co2s, *arguments):
    result = co2s("predict", *arguments, "--precision", "fp32", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize("tile", [64, 70, 53])
def test_a_scene_of_one_window_gets_what_the_student_says(co2s, tmp_path, model, tile):
    """None of the windows is a multiple of both patches, one is of neither."""
    pixels = noise((3, tile, tile))
    scene = write_raster(tmp_path / "scene.tif", pixels)
    made(co2s, scene, "--out", tmp_path / "map.tif", "--model", model, "--tile", tile)
    with torch.no_grad():
        wanted = weights.load(model).probabilities(torch.from_numpy(pixels[None]).float() / 255)[0].argmax(0).numpy()
    with rasterio.open(tmp_path / "map.tif") as made_map:
        found = made_map.read(1)
    assert (found == wanted).mean() > 0.999
    assert len(np.unique(found)) > 1


@pytest.mark.slow
def test_a_larger_scene_is_covered(co2s, tmp_path, model, scene):
    made(co2s, scene, "--out", tmp_path / "map.tif", "--model", model, "--confidence", tmp_path / "sure.tif",
         "--tta", "flips")  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as made_map:
        found = made_map.read(1)
    assert found.shape == (150, 170)
    assert set(np.unique(found)) <= {0, 1, 2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["mean", "confident"])
def test_every_way_to_agree_with_oneself_is_the_same(co2s, tmp_path, model, scene, fusion):
    made(co2s, scene, "--out", tmp_path / "map.tif", "--model", model)
    made(co2s, scene, "--out", tmp_path / "again.tif", "--model", model, "--fusion", fusion)
    with rasterio.open(tmp_path / "map.tif") as first, rasterio.open(tmp_path / "again.tif") as second:
        assert np.array_equal(first.read(1), second.read(1))


@pytest.mark.parametrize("wish", [("--fusion", "clip"), ("--disagreement", "d.tif")])
def test_what_takes_two_students_is_refused_in_one_line(co2s, tmp_path, monkeypatch, model, scene, wish):
    monkeypatch.chdir(tmp_path)
    result = co2s("predict", scene, "--out", tmp_path / "map.tif", "--model", model, *wish)
    assert result.exit_code == 5
    assert "this model holds only student" in result.stderr
    assert not list(tmp_path.iterdir())


def test_info_names_the_student_and_who_taught_it(co2s, model):
    result = co2s("info", model)
    assert result.exit_code == 0
    for words in ("student (vit_small_patch", "taught by", "tiny-dino:none, tiny-clip:none", "64 px"):
        assert words in result.stdout
    assert "fusion" not in result.stdout
    facts = json.loads(co2s("info", model, "--json").stdout)["model"]
    assert facts["taught_by"] == ["tiny-dino:none", "tiny-clip:none"]
    assert list(facts["students"]) == ["student"]


def test_a_damaged_file_is_a_model_error_in_one_line(co2s, tmp_path, model, scene):
    content = model.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    flipped = bytearray(content)
    flipped[-5] ^= 255
    (tmp_path / "flipped.safetensors").write_bytes(bytes(flipped))
    for name in ("cut", "flipped"):
        result = co2s("predict", scene, "--out", tmp_path / "map.tif", "--model", tmp_path / f"{name}.safetensors")
        assert result.exit_code == 5
        assert result.stderr.count("error: ") == 1
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "map.tif").exists()


def test_a_mistake_of_ours_leaves_no_thread_behind(co2s, tmp_path, model, scene, monkeypatch):
    """Threads that read would keep the process alive after its traceback."""

    def mistaken(product, blended):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(LandCover, "decide", mistaken)
    result = co2s("predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--device", "cpu", "--tile", 64)
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)  # its frames are still there, and what they hold
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "lane"))]
