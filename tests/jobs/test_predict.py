"""Maps of whole scenes: right pixels in the right place, the same however they are cut, nothing half-done."""

import contextlib
import errno
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import psutil
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from support.models import NAMES, save_tiny
from support.rasters import noise, write_raster

from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.units import parse_bytes
from co2s_cli.errors import (
    ConfigError,
    InputError,
    InterruptError,
    ModelError,
    OutputError,
    PartialError,
    ResourceError,
)
from co2s_cli.inference import map_setup, mapping, store, targets
from co2s_cli.inference import model as models
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.jobs import predict
from co2s_cli.progress import Silent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(autouse=True)
def _models_are_read_once(monkeypatch):
    """Drawing the weights that a file's then replace takes longer than the maps made here."""

    def load_model(path, settings, device, precision):
        key = path, settings.tta, precision
        if key not in READ:
            READ[key] = REAL_LOAD(path, settings, device, precision)
        return READ[key]

    monkeypatch.setattr(models, "load_model", load_model)


READ, REAL_LOAD, REAL_WRITE = {}, models.load_model, store.Parts.write


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, 150, 170)), tiled=True, blockxsize=64, blockysize=64)


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """A scene of several panels and five bands."""
    monkeypatch.setattr(mapping, "BAND", 64)
    return with_hole(tmp_path / "wide.tif", 290, 330)


@pytest.fixture
def large(tmp_path):
    """A scene that takes a process some seconds."""
    return with_hole(tmp_path / "large.tif", 1100, 1300)


def with_hole(path, height, width):
    pixels = noise((3, height, width), seed=1)
    pixels[:, height // 4 : height // 2, width // 5 : width // 2] = 0
    return write_raster(path, pixels, nodata=0, tiled=True, blockxsize=64, blockysize=64)


def settings(scene, out, model, **others):
    scenes = [str(one) for one in scene] if isinstance(scene, list) else [str(scene)]
    base = {"scenes": scenes, "out": out, "model": model, "precision": "fp32", "device": "cpu"}
    return load(PredictConfig, None, {**base, **others})


def run(*arguments, progress=None, **others):
    result = predict.run(settings(*arguments, **others), **({"progress": progress} if progress else {}))
    return result.maps[0] if len(result.maps) == 1 else result


def pixels(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


REAL_MEMORY = map_setup.plan_memory


def cut(monkeypatch, *, panel=100, lanes=1):
    """Make every run use panels of this width."""
    monkeypatch.setattr(
        map_setup, "plan_memory", lambda *a, **k: replace(REAL_MEMORY(*a, **k), panel=panel, lanes=lanes)
    )


class Interrupting(Silent):
    """Ctrl-C after some windows."""

    def __init__(self, after):
        self.left = after

    def advance(self, count=1, **facts):
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"transform": Affine(7, 3, 500_000, 3, -7, 5_500_000)},
        {"transform": Affine(10, 0, 500_000, 0, 10, 5_500_000)},
        {"bare": True},
    ],
    ids=["north-up", "rotated", "south-up", "bare"],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_map_has_the_grid_of_the_scene_and_names_and_colours_of_the_model(tmp_path, model, place):
    scene = write_raster(tmp_path / "scene.tif", noise((3, 70, 90)), **place)
    out = tmp_path / "map.tif"
    made = run(scene, out, model)
    with rasterio.open(scene) as before, rasterio.open(out) as after:
        assert (after.shape, after.transform, after.crs) == (before.shape, before.transform, before.crs)
        assert (after.dtypes, after.nodata) == (("uint8",), 255)
        assert set(np.unique(after.read())) <= set(range(len(NAMES)))
        assert after.colormap(1)[0][:3] == (255, 127, 14)
        tags = after.tags()
    assert tags["CO2S_VERSION"]
    assert json.loads(tags["CO2S_SETTINGS"])["tile"] == 64
    assert not any(word in str(tags) for word in (str(tmp_path), "mem_limit"))
    assert names(tmp_path) == ["map.qml", "map.tif", "map.tif.aux.xml", "scene.tif"]
    assert sum(made.pixels.values()) == 70 * 90
    assert [made.pixels[name] for name in NAMES] == [int((pixels(out) == place).sum()) for place in range(4)]


@pytest.mark.slow
def test_the_pixels_are_the_same_for_every_cut_into_panels_and_lanes(tmp_path, model, wide, monkeypatch):
    outputs = {}
    for panel, lanes in [(330, 1), (64, 2), (150, 3)]:
        cut(monkeypatch, panel=panel, lanes=lanes)
        paths = {name: tmp_path / f"{name}-{panel}.tif" for name in ("out", "probabilities", "disagreement")}
        run(wide, paths["out"], model, **{name: paths[name] for name in ("probabilities", "disagreement")},
            probability_type="float32")  # fmt: skip
        outputs[panel] = {name: path.read_bytes() for name, path in paths.items()}
    assert outputs[64] == outputs[330]
    assert outputs[150] == outputs[330]


def test_every_raster_beside_the_map_tells_the_same_story(tmp_path, model, scene):
    names = ("confidence", "probabilities", "disagreement")
    run(scene, tmp_path / "map.tif", model, **{name: tmp_path / f"{name}.tif" for name in names})
    label, chances = pixels(tmp_path / "map.tif")[0], pixels(tmp_path / "probabilities.tif")
    sure = pixels(tmp_path / "confidence.tif")[0]
    np.testing.assert_array_equal(chances.max(0), sure)
    np.testing.assert_array_equal(np.take_along_axis(chances, label[None], 0)[0], sure)
    assert abs(chances.sum(0, dtype=int) - 254).max() <= 2
    for name in names:
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            assert dataset.scales[0] == pytest.approx(1 / 254)
            assert dataset.nodata == 255
            assert dataset.read().max() <= 254


def test_unsure_pixels_get_no_class(tmp_path, model, scene):
    run(scene, tmp_path / "map.tif", model, min_confidence=0.8, probabilities=tmp_path / "p.tif",
        probability_type="float32")  # fmt: skip
    label, chances = pixels(tmp_path / "map.tif")[0], pixels(tmp_path / "p.tif")
    np.testing.assert_array_equal(label == 255, chances.max(0) < 0.8)
    assert 0 < (label == 255).mean() < 1


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("uint8", 1), ("int16", -9999), ("float32", float("nan"))])
def test_nodata_of_any_value_stays_nodata_and_takes_nothing_else_with_it(tmp_path, model, dtype, nodata):
    values = noise((3, 80, 90), dtype, low=2)
    hole = np.zeros((80, 90), bool)
    hole[:30, 40:] = True
    values[:, hole] = nodata
    scene = write_raster(tmp_path / "scene.tif", values, nodata=nodata)
    run(scene, tmp_path / "map.tif", model, scale="0,255")
    np.testing.assert_array_equal(pixels(tmp_path / "map.tif")[0] == 255, hole)


def test_outside_the_area_there_is_no_class_and_nothing_is_read(tmp_path, model, scene):
    area = tmp_path / "area.gpkg"
    with rasterio.open(scene) as dataset:
        box = shapely.box(*dataset.transform @ (10, 60), *dataset.transform @ (40, 20))
        frame = geopandas.GeoDataFrame(geometry=[box], crs=dataset.crs).to_crs(4326)
    frame.to_file(area)
    made = run(scene, tmp_path / "map.tif", model, aoi=area)
    inside = pixels(tmp_path / "map.tif")[0] != 255
    rows, cols = np.nonzero(inside)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 59, 10, 39)
    assert inside.sum() == 40 * 30
    assert made.read == 2 < made.windows


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (90, 1), (63, 64), (64, 65)])
def test_scenes_smaller_than_a_window_are_mapped_to_their_edges(tmp_path, model, shape):
    scene = write_raster(tmp_path / "scene.tif", noise((3, *shape)))
    run(scene, tmp_path / "map.tif", model)
    label = pixels(tmp_path / "map.tif")[0]
    assert label.shape == shape
    assert (label < 4).all()


def test_a_resampled_scene_gets_a_map_of_its_own_pixels(tmp_path, model, scene):
    made = run(scene, tmp_path / "map.tif", model, res=20.0, confidence=tmp_path / "sure.tif")
    assert made.windows == 4
    for name in ("map.tif", "sure.tif"):
        with rasterio.open(scene) as before, rasterio.open(tmp_path / name) as after:
            assert (after.shape, after.transform) == (before.shape, before.transform)
            assert (after.read() < 255).all()


def test_bands_can_be_picked_by_number_by_name_and_as_a_range(tmp_path, model):
    values = noise((5, 40, 40))
    scene = write_raster(tmp_path / "five.tif", values, names=("blue", "green", "red", "nir", "swir"))
    plain = write_raster(tmp_path / "three.tif", values[[2, 1, 0]])
    run(plain, tmp_path / "expected.tif", model)
    for place, bands in enumerate([["3,2,1"], ["red", "green,blue"], ["3..1"]]):
        run(scene, tmp_path / f"{place}.tif", model, bands=bands)
        np.testing.assert_array_equal(pixels(tmp_path / f"{place}.tif"), pixels(tmp_path / "expected.tif"))


@pytest.mark.parametrize(
    "choice", [{"fusion": "clip"}, {"fusion": "confident"}, {"tta": "flips"}, {"precision": "bf16"}]
)
def test_what_decides_the_pixels_changes_them(tmp_path, model, scene, choice):
    run(scene, tmp_path / "map.tif", model)
    run(scene, tmp_path / "other.tif", model, **choice)
    assert (pixels(tmp_path / "map.tif") != pixels(tmp_path / "other.tif")).any()


def test_polygons_and_picture_are_made_of_the_map(tmp_path, model, scene):
    run(scene, tmp_path / "map.tif", model, vector=tmp_path / "map.gpkg", preview=tmp_path / "map.png")
    assert set(geopandas.read_file(tmp_path / "map.gpkg")["class"]) <= set(NAMES)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    expected = ["map.gpkg", "map.png", "map.qml", "map.tif", "map.tif.aux.xml", "scene.tif"]
    assert names(tmp_path) == expected


def test_an_interrupted_map_goes_on_where_it_stopped(tmp_path, model, wide):
    whole, out = tmp_path / "whole.tif", tmp_path / "map.tif"
    first = run(wide, whole, model)
    with pytest.raises(InterruptError, match="run the same command again"):
        run(wide, out, model, progress=Interrupting(after=first.read * 2 // 3))
    assert not out.exists()
    assert list(targets.folder_of(out).glob("*.class.tif"))
    made = run(wide, out, model)
    assert made.state == "resumed"
    assert made.read < first.read
    assert out.read_bytes() == whole.read_bytes()
    assert not targets.folder_of(out).exists()


def test_a_map_goes_on_where_the_shared_folder_has_another_path(tmp_path, model, wide):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    wide.rename(one / "wide.tif")
    with pytest.raises(InterruptError):
        run(one / "wide.tif", one / "map.tif", model, progress=Interrupting(after=30))
    one.rename(other)
    made = run(other / "wide.tif", other / "map.tif", model)
    assert made.state == "resumed"
    whole = run(other / "wide.tif", other / "whole.tif", model)
    assert made.read < whole.read
    assert (other / "map.tif").read_bytes() == (other / "whole.tif").read_bytes()


@pytest.mark.slow
def test_a_map_goes_on_with_another_cut_of_the_panels(tmp_path, model, wide, monkeypatch):
    whole, out = tmp_path / "whole.tif", tmp_path / "map.tif"
    first = run(wide, whole, model)
    for panel, after in [(200, 20), (100, 20), (200, 10)]:
        cut(monkeypatch, panel=panel)
        with pytest.raises(InterruptError):
            run(wide, out, model, progress=Interrupting(after))
    cut(monkeypatch, panel=330)
    made = run(wide, out, model)
    assert made.state == "resumed"
    assert made.panel == 100 < first.panel
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_map_survives_a_kill(tmp_path, model, large):
    whole, out = tmp_path / "whole.tif", tmp_path / "map.tif"
    run(large, whole, model)
    command = [sys.executable, "-m", "co2s_cli", "predict", str(large), "--out", str(out), "--model", str(model),
               "--precision", "fp32", "--device", "cpu", "--json"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = targets.folder_of(out)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.class.tif")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    made = json.loads(again.stdout)["maps"][0]
    assert made["state"] == "resumed"
    assert out.read_bytes() == whole.read_bytes()
    assert not folder.exists()


def test_a_second_process_on_the_same_map_is_refused_while_the_first_lives(tmp_path, model, scene):
    out = tmp_path / "map.tif"
    with store.locked(out):
        with pytest.raises(OutputError, match="another process is writing it"):
            run(scene, out, model)
        assert not out.exists()
    assert run(scene, out, model).state == "made"


@pytest.mark.slow
def test_two_processes_make_the_same_map_as_one(tmp_path, model, large):
    run(large, tmp_path / "one.tif", model)
    run(large, tmp_path / "two.tif", model, workers=2)
    assert (tmp_path / "two.tif").read_bytes() == (tmp_path / "one.tif").read_bytes()


@pytest.mark.slow
def test_a_helper_that_fails_is_heard(tmp_path, model, large, monkeypatch):
    def broken(*arguments):
        model.rename(tmp_path / "moved")
        return real(*arguments)

    real = mapping._compute
    monkeypatch.setattr(mapping, "_compute", broken)
    try:
        with pytest.raises(InputError, match="no such model file"):
            run(large, tmp_path / "map.tif", model, workers=2)
    finally:
        (tmp_path / "moved").rename(model)


def test_unfinished_work_with_other_settings_is_refused_or_begun_anew(tmp_path, model, wide):
    out = tmp_path / "map.tif"
    with pytest.raises(InterruptError):
        run(wide, out, model, progress=Interrupting(after=20))
    with pytest.raises(OutputError, match="tta was none, is flips"):
        run(wide, out, model, tta="flips", tile=128)
    made = run(wide, out, model, tile=128, overwrite=True)
    assert made.state == "made"
    run(wide, tmp_path / "direct.tif", model, tile=128)
    assert out.read_bytes() == (tmp_path / "direct.tif").read_bytes()


def test_what_the_first_run_settled_holds_for_the_next(tmp_path, model, wide):
    out = tmp_path / "map.tif"
    with pytest.raises(InterruptError):
        run(wide, out, model, precision="bf16", batch=2, progress=Interrupting(after=20))
    made = run(wide, out, model, precision="auto")
    assert (made.precision, made.batch, made.state) == ("bf16", 2, "resumed")


def test_resume_and_overwrite_together_replace_only_what_was_made_otherwise(tmp_path, model, scene):
    out = tmp_path / "map.tif"
    run(scene, out, model)
    both = {"resume": True, "overwrite": True}
    assert [run(scene, out, model, tta=tta, **both).state for tta in ("none", "flips", "flips")] == [
        "done", "made", "done",
    ]  # fmt: skip


def test_a_whole_map_is_kept_done_or_replaced_as_asked(tmp_path, model, scene):
    out = tmp_path / "map.tif"
    run(scene, out, model)
    before = out.stat().st_mtime_ns
    with pytest.raises(OutputError, match="exists and is not overwritten"):
        run(scene, out, model)
    assert run(scene, out, model, resume=True).state == "done"
    assert out.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="with other settings"):
        run(scene, out, model, resume=True, tile=128)
    assert run(scene, out, model, overwrite=True).state == "made"
    assert out.stat().st_mtime_ns > before


def test_several_scenes_do_not_stop_at_one_that_fails(tmp_path, model, scene):
    (tmp_path / "broken.tif").write_text("no raster")
    good = write_raster(tmp_path / "good.tif", noise((3, 30, 30)))
    folder = tmp_path / "maps"
    folder.mkdir()
    result = run([scene, tmp_path / "broken.tif", good], folder, model)
    assert [made.outputs["class"].name for made in result.maps] == ["scene.tif", "good.tif"]
    assert (result.failed[0].source, result.failed[0].exit_code) == (str(tmp_path / "broken.tif"), 3)
    with pytest.raises(PartialError, match=r"1 of 3 scenes failed:\n  .*broken.tif"):
        result.check()
    assert names(folder) == ["good.qml", "good.tif", "good.tif.aux.xml", "scene.qml", "scene.tif", "scene.tif.aux.xml"]


def test_two_scenes_of_one_name_do_not_share_a_map(tmp_path, model, scene):
    (tmp_path / "b").mkdir()
    twin = write_raster(tmp_path / "b" / "scene.tif", noise((3, 30, 30)))
    (tmp_path / "maps").mkdir()
    with pytest.raises(InputError, match="would both become"):
        run([scene, twin], tmp_path / "maps", model)
    assert names(tmp_path / "maps") == []


REFUSED = [
    ({"out": "missing/map.tif"}, OutputError, "does not exist"),
    (
        {"out": "scene.tif", "overwrite": True},
        ConfigError,
        r"would overwrite an input of this command \(SCENE .*scene.tif\)",
    ),
    ({"out": "map.png"}, ConfigError, "a name that ends in .tif"),
    ({"preview": "map.jpg"}, ConfigError, "ends in .png"),
    ({"vector": "map.shp"}, ConfigError, "map.shp"),
    ({"bands": "1,2"}, InputError, "2 bands .* found, the model wants 3"),
    ({"bounds": "0,0,1,1"}, InputError, "misses the scene"),
    ({"scale": "p5"}, ConfigError, "--scale"),
    ({"mem_limit": "100MB"}, ResourceError, "too small"),
    ({"co": ["COMPRESS=JPEG"]}, ConfigError, "COMPRESS"),
    ({"model": "scene.tif"}, ModelError, "not a co2s model file"),
    ({"model": "none.safetensors"}, InputError, "no such model file"),
    ({"scene": "none.tif"}, InputError, "no such file"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED, ids=[str(item[0]) for item in REFUSED])
def test_what_cannot_work_is_refused_before_any_compute_and_leaves_nothing(
    tmp_path, model, scene, wrong, error, message
):
    wrong = {
        name: tmp_path / value if name in ("out", "preview", "vector", "model", "scene") else value
        for name, value in wrong.items()
    }
    given = {"out": tmp_path / "map.tif", "model": model, "scene": scene, **wrong}
    before = names(tmp_path)
    with pytest.raises(error, match=message):
        run(given.pop("scene"), given.pop("out"), given.pop("model"), **given)
    assert names(tmp_path) == before


def test_several_scenes_have_no_two_rasters_of_one_name(tmp_path, model, scene):
    other = write_raster(tmp_path / "other.tif", noise((3, 30, 30)))
    (tmp_path / "maps").mkdir()
    with pytest.raises(ConfigError, match=r"--confidence .*scene.tif: --out writes the same file"):
        run([scene, other], tmp_path / "maps", model, confidence=tmp_path / "maps")
    assert names(tmp_path / "maps") == []


def test_one_student_cannot_disagree_nor_be_another(tmp_path, scene):
    alone = save_tiny(tmp_path / "alone.safetensors", students=("dino",))
    with pytest.raises(ModelError, match="holds only dino"):
        run(scene, tmp_path / "map.tif", alone, disagreement=tmp_path / "d.tif")
    with pytest.raises(ModelError, match="holds only dino"):
        run(scene, tmp_path / "map.tif", alone, fusion="clip")
    assert run(scene, tmp_path / "map.tif", alone).state == "made"


def test_a_scene_that_breaks_off_in_the_middle_leaves_no_map(tmp_path, model):
    scene = write_raster(tmp_path / "scene.tif", noise((3, 300, 300)))
    content = Path(scene).read_bytes()
    Path(scene).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        run(scene, tmp_path / "map.tif", model)
    assert names(tmp_path) == ["scene.tif"]


def test_windows_overlap_as_the_model_was_validated(tmp_path, scene):
    half = save_tiny(tmp_path / "half.safetensors", overlap=0.5)
    for changes, overlap in (({}, 32), ({"overlap": 0.25}, 16)):
        (estimate,) = predict.run(settings(scene, tmp_path / "map.tif", half, dry_run=True, **changes)).estimates
        assert (estimate.tile, estimate.overlap) == (64, overlap)


def test_windows_of_another_size_than_the_model_learnt_are_remarked(tmp_path, scene, model, caplog):
    for tile, remarked in ((96, False), (112, True), (32, True)):
        caplog.clear()
        predict.run(settings(scene, tmp_path / "map.tif", model, dry_run=True, tile=tile))
        assert (f"windows of {tile} px, the model learnt on 64 px" in caplog.text) == remarked


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(tmp_path, model, large):
    (estimate,) = predict.run(settings(large, tmp_path / "map.tif", model, dry_run=True)).estimates
    assert (estimate.height, estimate.width, estimate.tile, estimate.overlap) == (1100, 1300, 64, 16)
    assert (estimate.strips, estimate.panels) == (3, 1)
    assert "3 strips, 1 panel, " in estimate.text()
    assert estimate.windows == 23 * 27
    assert estimate.probably_skipped == 35
    assert 0 < estimate.memory_bytes <= estimate.memory_limit
    assert estimate.seconds > 0
    assert "621 windows of 64 px" in estimate.text()
    assert names(tmp_path) == ["large.tif"]


def test_a_full_disk_is_an_output_error_and_what_is_finished_stays(tmp_path, model, wide, monkeypatch):
    whole, out = tmp_path / "whole.tif", tmp_path / "map.tif"
    run(wide, whole, model)
    written = []

    def full(handle):
        written.append(handle)
        if len(written) == 4:  # the first is the journal
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("co2s_cli.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run(wide, out, model)
    assert not out.exists()
    assert len(list(targets.folder_of(out).glob("*.class.tif"))) >= 2  # others may be on their way at the same time
    assert not list(targets.folder_of(out).glob(".co2s.*"))
    assert run(wide, out, model).state == "resumed"
    assert out.read_bytes() == whole.read_bytes()


def test_a_disk_that_is_surely_too_small_is_refused_before_any_compute(tmp_path, model, scene, monkeypatch):
    monkeypatch.setattr(targets.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OutputError, match="10 B are free"):
        run(scene, tmp_path / "map.tif", model)
    assert names(tmp_path) == ["scene.tif"]


def test_what_belongs_to_a_whole_map_is_made_again_if_it_is_gone(tmp_path, model, scene):
    wanted = {"confidence": tmp_path / "sure.tif", "preview": tmp_path / "map.png"}
    run(scene, tmp_path / "map.tif", model, **wanted)
    wanted["preview"].unlink()
    assert run(scene, tmp_path / "map.tif", model, **wanted, resume=True).state == "done"
    assert wanted["preview"].exists()
    wanted["confidence"].unlink()
    with pytest.raises(OutputError, match=r"sure.tif: is missing, although its map exists"):
        run(scene, tmp_path / "map.tif", model, **wanted, resume=True)
    assert run(scene, tmp_path / "map.tif", model, **wanted, resume=True, overwrite=True).state == "made"


def flip(path, place):
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["map.tif", "sure.tif"])
@pytest.mark.parametrize("damage", [lambda path: flip(path, -300), lambda path: path.write_bytes(b"II*")])
def test_a_map_or_what_belongs_to_it_is_done_only_if_its_checksum_holds(tmp_path, model, scene, name, damage):
    wanted = {"confidence": tmp_path / "sure.tif"}
    run(scene, tmp_path / "map.tif", model, **wanted)
    whole = (tmp_path / name).read_bytes()
    damage(tmp_path / name)
    damaged = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match=rf"{name}: does not match its own checksum") as caught:
        run(scene, tmp_path / "map.tif", model, **wanted, resume=True)
    assert "--overwrite" in caught.value.hint
    assert (tmp_path / name).read_bytes() == damaged
    assert run(scene, tmp_path / "map.tif", model, **wanted, resume=True, overwrite=True).state == "made"
    assert (tmp_path / name).read_bytes() == whole


def test_a_raster_of_another_map_beside_it_is_not_done(tmp_path, model, scene):
    run(scene, tmp_path / "map.tif", model, confidence=tmp_path / "sure.tif")
    run(scene, tmp_path / "other.tif", model, confidence=tmp_path / "sure.tif", tile=128, overwrite=True)
    with pytest.raises(OutputError, match=r"sure.tif: is complete, but was made from another scene"):
        run(scene, tmp_path / "map.tif", model, confidence=tmp_path / "sure.tif", resume=True)


def test_damaged_and_forged_parts_are_made_anew_and_no_others(tmp_path, model, wide, monkeypatch):
    whole, out = tmp_path / "whole.tif", tmp_path / "map.tif"
    first = run(wide, whole, model)
    with pytest.raises(InterruptError):
        run(wide, out, model, progress=Interrupting(after=first.read - 1))
    parts = sorted(targets.folder_of(out).glob("*.class.tif"))
    assert len(parts) >= 3
    flip(parts[0], -9)
    write_raster(parts[1], noise((1, 64, 330)))
    written = []

    def write(self, unit, planes):
        written.append(self.path(unit, self.planes[0]).name)
        REAL_WRITE(self, unit, planes)

    monkeypatch.setattr(store.Parts, "write", write)
    assert run(wide, out, model).state == "resumed"
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in parts} & set(written) == {path.name for path in parts[:2]}


def test_a_folder_of_parts_that_this_program_did_not_make_is_refused(tmp_path, model, scene):
    folder = targets.folder_of(tmp_path / "map.tif")
    folder.mkdir()
    (folder / "0-0-150x170.class.tif").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is not a folder of unfinished work"):
            run(scene, tmp_path / "map.tif", model, overwrite=overwrite)
    assert names(folder) == ["0-0-150x170.class.tif"]


def test_notes_of_a_run_out_of_memory_travel_to_the_report(tmp_path, model, scene, monkeypatch):
    def greedy(self, images):
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return real(self, images)

    real = InferenceEngine._forward
    monkeypatch.setattr(InferenceEngine, "_forward", greedy)
    made = run(scene, tmp_path / "map.tif", model, batch=2)
    assert made.batch == 2
    assert len(made.notes) == 1
    assert "1 windows at a time" in made.notes[0]


@pytest.mark.slow
def test_the_smallest_limit_that_is_named_works_and_is_kept(tmp_path, model):
    scene = write_raster(tmp_path / "scene.tif", noise((3, 700, 3000)), tiled=True)
    with pytest.raises(ResourceError) as caught:
        run(scene, tmp_path / "map.tif", model, mem_limit="1MB")
    flags = caught.value.hint.split(" is ")[1].split()
    command = [sys.executable, "-m", "co2s_cli", "predict", str(scene), "--out", str(tmp_path / "map.tif"),
               "--model", str(model), "--precision", "fp32", "--device", "cpu", *flags]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, sum(one.memory_info().rss for one in [watched, *watched.children(recursive=True)]))
        time.sleep(0.02)
    assert process.returncode == 0
    assert peak <= 1.1 * parse_bytes(flags[1])


@pytest.mark.parametrize("wish", ["preview", "vector"])
def test_a_map_stays_when_what_is_wanted_beside_it_fails(tmp_path, model, scene, monkeypatch, wish):
    def broken(*_, **__):
        raise OutputError("no room for it", hint="make room")

    beside = {wish: tmp_path / {"preview": "map.png", "vector": "map.gpkg"}[wish]}
    with monkeypatch.context() as patch:
        patch.setattr("co2s_cli.geo.write.preview.write_preview", broken)
        patch.setattr("co2s_cli.jobs.vectorize.run", broken)
        for again in (False, True):
            with pytest.raises(
                OutputError, match=r"map.tif: the map is complete and stays, .* failed: no room for it"
            ) as caught:
                run(scene, tmp_path / "map.tif", model, **beside, resume=again)
            assert "--resume" in caught.value.hint
    assert (pixels(tmp_path / "map.tif") < 4).all()
    assert not targets.folder_of(tmp_path / "map.tif").exists()
    assert run(scene, tmp_path / "map.tif", model, **beside, resume=True).state == "done"
    assert beside[wish].exists()


def test_of_several_scenes_those_whose_polygons_fail_late_keep_their_maps(tmp_path, model, scene, monkeypatch):
    other = write_raster(tmp_path / "other.tif", noise((3, 30, 30)))
    folders = {name: tmp_path / name for name in ("maps", "polygons")}
    for folder in folders.values():
        folder.mkdir()
    chosen = {"vector": folders["polygons"], "resume": True}

    def broken(settings, _):
        raise ResourceError("too many regions", hint="raise --min-area")

    with monkeypatch.context() as patch:
        patch.setattr("co2s_cli.jobs.vectorize.run", broken)
        result = run([scene, other], folders["maps"], model, **chosen)
    with pytest.raises(
        PartialError, match=r"(?s)scene.tif: the map is complete and stays.*raise --min-area; the same comm"
    ):
        result.check()
    assert {"scene.tif", "other.tif"} <= set(names(folders["maps"]))
    monkeypatch.setattr("co2s_cli.inference.mapping._compute", lambda *_: pytest.fail("the map is computed again"))
    assert [made.state for made in run([scene, other], folders["maps"], model, **chosen).maps] == ["done", "done"]
    assert names(folders["polygons"]) == ["other.gpkg", "other.qml", "scene.gpkg", "scene.qml"]


def test_polygons_that_memory_does_not_allow_are_refused_before_any_compute(tmp_path, model, scene, monkeypatch):
    monkeypatch.setattr("co2s_cli.geo.polygons.plan.BYTES_PER_PIXEL", 10**12)
    monkeypatch.setattr("co2s_cli.inference.mapping._compute", lambda *_: pytest.fail("the map was begun"))
    with pytest.raises(ResourceError, match="needs at least"):
        run(scene, tmp_path / "map.tif", model, vector=tmp_path / "map.gpkg", mem_limit="3GB")


def test_polygons_are_made_under_the_memory_limit_of_the_map(tmp_path, model, scene, monkeypatch):
    given = []
    monkeypatch.setattr("co2s_cli.jobs.vectorize.run", lambda settings, _: given.append(settings.mem_limit))
    run(scene, tmp_path / "map.tif", model, vector=tmp_path / "map.gpkg", mem_limit="3GB")
    assert given == [3_000_000_000]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dry_run", [False, True])
def test_polygons_that_could_not_be_written_are_refused_before_any_compute(tmp_path, model, dry_run):
    scene = write_raster(tmp_path / "scene.tif", noise((3, 70, 90)), bare=True)
    with pytest.raises(InputError, match=r"GeoJSON is in EPSG:4326, but .*scene.tif has no CRS"):
        run(scene, tmp_path / "map.tif", model, vector=tmp_path / "map.geojson", dry_run=dry_run)
    assert names(tmp_path) == ["scene.tif"]
