"""Pseudo-labels of whole scenes: right pixels, whatever interrupts; a data.yaml on which the next round trains."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
import yaml
from support.models import NAMES, save_tiny
from support.rasters import noise, write_raster

from co2s_cli.config import load
from co2s_cli.config.data import read_data
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.data.dataset import assemble
from co2s_cli.data.samples import View
from co2s_cli.errors import ConfigError, InputError, InterruptError, ModelError, OutputError, PartialError
from co2s_cli.inference import model as models
from co2s_cli.inference.store import folder_of
from co2s_cli.jobs import predict, pseudo_label
from co2s_cli.locks import only_writer
from co2s_cli.models import weights
from co2s_cli.progress import Silent
from co2s_cli.pseudo import labelling
from co2s_cli.pseudo.candidates import GRID
from co2s_cli.pseudo.cut import DIFFER, HUMAN, KEPT, SMALL, UNSURE
from co2s_cli.tiling import Window

pytestmark = pytest.mark.slow  # whole runs, a second each

SIDE = 64
"""Of a window, so that a scene of this size is one."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "one.safetensors", students=("dino",))


READ, REAL_LOAD = {}, models.load_model


@pytest.fixture(autouse=True)
def _models_are_read_once(monkeypatch):
    def load_model(path, settings, device, precision):
        key = path, settings.tta, precision
        if key not in READ:
            READ[key] = REAL_LOAD(path, settings, device, precision)
        return READ[key]

    monkeypatch.setattr(models, "load_model", load_model)


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", noise((3, SIDE, SIDE)))


@pytest.fixture
def large(tmp_path):
    """A scene of many windows and a hole."""
    values = noise((3, 150, 170), seed=1)
    values[:, 40:90, 50:120] = 0
    return write_raster(tmp_path / "large.tif", values, nodata=0, tiled=True, blockxsize=64, blockysize=64)


def settings(scene, out, model, **others):
    scenes = [str(one) for one in scene] if isinstance(scene, list) else [str(scene)]
    base = {"scenes": scenes, "out": out, "model": model, "precision": "fp32", "device": "cpu"}
    return load(PseudoLabelConfig, None, {**base, **others})


def run(*arguments, progress=None, **others):
    return pseudo_label.run(settings(*arguments, **others), **({"progress": progress} if progress else {}))


def pixels(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def rasters(out, name):
    kinds = ("labels", "mask", "weights", "confidence", "candidates", "disagreement")
    return {kind: pixels(out / kind / f"{name}.tif") for kind in kinds if (out / kind / f"{name}.tif").exists()}


def members(model, scene):
    """Each student's probabilities (N, h, w) of a scene that is one window."""
    with rasterio.open(scene) as dataset:
        image = torch.from_numpy(dataset.read()[None].astype(np.float32) / 255)
    pair = weights.load(model).eval()
    with torch.inference_mode():
        return {name: part[0].numpy() for name, part in pair.members(image).items()}


def expected(rule, students):
    """Candidate and confidence of every pixel, in numpy."""
    first, second = students["clip"], students["dino"]
    if rule == "any":
        fused = (first + second) / 2
        return fused.argmax(0), fused.max(0)
    a, b, sure_a, sure_b = first.argmax(0), second.argmax(0), first.max(0), second.max(0)
    if rule == "both":
        return np.where(a == b, a, 255), np.minimum(sure_a, sure_b)
    return np.where(sure_b > sure_a, b, a), np.maximum(sure_a, sure_b)


@pytest.mark.parametrize("kind", ["confidence", "candidates", "disagreement"])
def test_another_cut_reads_no_damaged_raster_of_the_first(tmp_path, model, scene, kind):
    out = tmp_path / "out"
    run(scene, out, model, threshold=0.8)
    damaged = out / kind / "scene.tif"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    with pytest.raises(OutputError, match=rf"{kind}/scene.tif: does not match its own checksum"):
        run(scene, out, model, threshold=0.6, resume=True)
    run(scene, out, model, threshold=0.6, overwrite=True)
    assert damaged.read_bytes() == whole


def test_two_rounds_do_not_write_into_one_folder(tmp_path, model, scene):
    with only_writer(tmp_path / "out"), pytest.raises(OutputError, match="out: another process is writing it"):
        run(scene, tmp_path / "out", model, overwrite=True)
    assert not (tmp_path / "out").exists()


def test_shares_make_candidates_and_one_run_cuts_them_all(tmp_path, model, scene, large):
    out, scenes = tmp_path / "shares", [scene, large]
    for number in (1, 2):
        share = run(scenes, out, model, threshold=0.5, shard=f"{number}/2")
        assert (len(share.made), share.data, share.report) == (1, None, None)
        assert share.text() == str(share.made[0].outputs["class"])
    whole = run(scenes, out, model, threshold=0.5)
    assert [made.state for made in whole.made] == ["done", "done"]
    run(scenes, tmp_path / "one", model, threshold=0.5)
    for path in sorted((tmp_path / "one").rglob("*.tif")):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.parametrize("rule", ["any", "both", "surer"])
def test_labels_are_what_the_students_say_of_the_whole_scene_at_once(tmp_path, model, scene, rule):
    out = tmp_path / "out"
    result = run(scene, out, model, agree=rule, threshold=0.8)
    label, sure = expected(rule, members(model, scene))
    clear = abs(sure - 0.8) > 1e-4
    found = rasters(out, "scene")
    np.testing.assert_allclose(found["confidence"], sure, atol=1e-4)
    np.testing.assert_array_equal(found["labels"][clear], np.where((sure >= 0.8) & (label != 255), label, 255)[clear])
    np.testing.assert_array_equal((found["mask"] == KEPT), found["labels"] != 255)
    np.testing.assert_array_equal((found["mask"] == DIFFER), label == 255)
    assert 0 < result.total.coverage < 1
    assert result.total.labelled == (found["labels"] != 255).sum()


def test_a_label_is_kept_exactly_where_the_stored_confidence_reaches_the_threshold(tmp_path, model, large):
    out = tmp_path / "out"
    result = run(large, out, model, threshold=0.7)
    found = rasters(out, "large")
    kept = found["confidence"] >= 0.7
    np.testing.assert_array_equal(found["labels"], np.where(kept, found["candidates"], 255))
    np.testing.assert_array_equal(found["weights"], np.where(kept, np.rint(found["confidence"] * 254), 255))
    valid = pixels(large) != 0
    np.testing.assert_array_equal(np.isnan(found["confidence"]), ~valid)
    np.testing.assert_array_equal(found["mask"] == 255, ~valid)
    np.testing.assert_array_equal(found["mask"] == UNSURE, valid & ~kept)
    total = result.total
    assert total.pixels == valid.sum()
    assert total.mean_confidence == pytest.approx(found["confidence"][kept].mean(dtype=float))
    assert total.disagreement == pytest.approx(found["disagreement"][valid].mean() / 254)
    assert total.disagreement_labelled == pytest.approx(found["disagreement"][kept].mean() / 254)
    for place, name in enumerate(NAMES):
        assert total.classes[name].pixels == (found["labels"] == place).sum()
        assert total.classes[name].candidates == (found["candidates"][valid] == place).sum()


def test_any_keeps_what_predict_keeps(tmp_path, model, large):
    run(large, tmp_path / "out", model, agree="any", threshold=0.7)
    base = {"scenes": [str(large)], "model": model, "precision": "fp32", "device": "cpu"}
    predict.run(load(PredictConfig, None, {**base, "out": tmp_path / "map.tif", "min_confidence": 0.7}))
    found = rasters(tmp_path / "out", "large")
    clear = abs(found["confidence"] - 0.7) > 1 / GRID
    np.testing.assert_array_equal(found["labels"][clear], pixels(tmp_path / "map.tif")[clear])


def test_balanced_thresholds_are_those_of_all_scenes_together(tmp_path, model, scene, large):
    out = tmp_path / "out"
    result = run([scene, large], out, model, threshold_per_class="auto", share=0.3)
    parts = [rasters(out, name) for name in ("scene", "large")]
    for place, name in enumerate(NAMES):
        sure = np.sort(np.concatenate([part["confidence"][part["candidates"] == place] for part in parts]))[::-1]
        wanted = -(-len(sure) * 3 // 10)
        one = result.total.classes[name]
        assert one.threshold == (sure[wanted - 1] if len(sure) else 1)
        assert one.pixels == (sure >= one.threshold).sum() >= wanted
        kept = sum(int((part["labels"] == place).sum()) for part in parts)
        assert kept == one.pixels


@pytest.mark.parametrize("written", [["town=0.4", "water=1"], ["town=0.4, water=1"]])
def test_thresholds_of_single_classes_go_before_the_common_one(tmp_path, model, scene, written):
    result = run(scene, tmp_path / "out", model, threshold_per_class=written, threshold=0.8)
    assert {name: one.threshold for name, one in result.total.classes.items()} == {
        "water": 1.0, "field": 0.8, "forest": 0.8, "town": 0.4,
    }  # fmt: skip


def test_regions_below_the_smallest_area_are_not_kept(tmp_path, model, large, monkeypatch):
    from scipy import ndimage

    monkeypatch.setattr(labelling, "_STRIP_PIXELS", 170 * 7)
    run(large, tmp_path / "all", model, threshold=0.6)
    run(large, tmp_path / "out", model, threshold=0.6, min_area=5)
    before, found = (rasters(tmp_path / name, "large") for name in ("all", "out"))
    expected = np.full_like(before["labels"], 255)
    for label in range(len(NAMES)):
        regions, _ = ndimage.label(before["labels"] == label)
        big = np.bincount(regions.ravel())[regions] >= 5
        expected[(before["labels"] == label) & big] = label
    np.testing.assert_array_equal(found["labels"], expected)
    np.testing.assert_array_equal(found["mask"] == SMALL, (before["labels"] != 255) & (expected == 255))


def human_data(folder, scene, shape, **changes):
    """A data.yaml with labels of a part of the scene, and truth in another part of it."""
    few = np.full(shape, 255, np.uint8)
    few[:8, :12] = 2
    few[8:10, :4] = 1
    truth = noise(shape, low=0, high=4, seed=5)
    write_raster(folder / "few.tif", few)
    write_raster(folder / "truth.tif", truth)
    content = {
        "classes": list(NAMES),
        "labeled": [{"image": Path(scene).name, "labels": "few.tif"}],
        "unlabeled": [Path(scene).name],
        "val": [{"image": Path(scene).name, "labels": "truth.tif", "windows": [[20, 20, 16, 24]]}],
        **changes,
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(content))
    return path, few, truth


def test_human_labels_stay_on_top_and_count_fully(tmp_path, model, scene):
    path, few, _ = human_data(tmp_path, scene, (SIDE, SIDE))
    run(scene, tmp_path / "plain", model, threshold=0.7, weight=0.5)
    result = run(scene, tmp_path / "out", model, threshold=0.7, weight=0.5, keep_labels=path)
    before, found = rasters(tmp_path / "plain", "scene"), rasters(tmp_path / "out", "scene")
    on_top = few != 255
    np.testing.assert_array_equal(found["labels"], np.where(on_top, few, before["labels"]))
    np.testing.assert_array_equal(found["weights"], np.where(on_top, 254, np.where(before["labels"] != 255, 127, 255)))
    np.testing.assert_array_equal(found["mask"] == HUMAN, on_top)
    assert result.total.human == on_top.sum()


def test_precision_is_measured_on_labels_that_no_model_has_seen(tmp_path, model, scene):
    path, _, truth = human_data(tmp_path, scene, (SIDE, SIDE))
    result = run(scene, tmp_path / "out", model, threshold=0.7, keep_labels=path)
    found = rasters(tmp_path / "out", "scene")
    kept = (found["confidence"] >= 0.7)[20:36, 20:44]
    right = (found["candidates"] == truth)[20:36, 20:44]
    assert result.total.measured == kept.sum()
    assert result.total.precision == pytest.approx(right[kept].mean())
    assert result.total.precision_before == pytest.approx(right.mean())
    for place, name in enumerate(NAMES):
        here = kept & (found["candidates"][20:36, 20:44] == place)
        if here.any():
            assert result.total.classes[name].precision == pytest.approx(right[here].mean())
    whole = run(scene, tmp_path / "out", model, threshold=0.7, truth=tmp_path / "truth.tif", overwrite=True)
    assert whole.total.precision == pytest.approx((found["candidates"] == truth)[found["confidence"] >= 0.7].mean())


def test_true_labels_of_several_scenes_are_found_by_name(tmp_path, model, scene, large):
    (tmp_path / "true").mkdir()
    write_raster(tmp_path / "true" / "scene.tif", np.zeros((SIDE, SIDE), np.uint8))
    result = run([scene, large], tmp_path / "out", model, threshold=0.5, truth=tmp_path / "true")
    first, second = result.scenes
    assert first.summary.classes["water"].precision == 1
    assert second.summary.precision is None
    assert second.truth is None
    with pytest.raises(InputError, match="gone: no such label file"):
        run(scene, tmp_path / "more", model, truth=tmp_path / "gone")
    assert not (tmp_path / "more").exists()


def test_the_report_holds_what_the_result_says(tmp_path, model, scene, large):
    result = run([scene, large], tmp_path / "out", model, threshold=0.7)
    told = json.loads((tmp_path / "out" / "pseudo.json").read_text())
    assert told["total"]["labelled"] == result.total.labelled == sum(s["summary"]["labelled"] for s in told["scenes"])
    assert told["rule"]["agree"] == "surer"
    assert told["scenes"][0]["outputs"]["labels"] == "labels/scene.tif"
    assert told["total"]["precision"] is None


def dataset(path, crop=32):
    return assemble(read_data(path), view=View(crop, (1.0, 1.0), "own"), seed=0)


def test_the_next_round_trains_on_human_and_pseudo_labels_and_validates_as_before(tmp_path, model, scene):
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE))
    result = run(scene, tmp_path / "out", model, threshold=0.5, keep_labels=path)
    before, after = dataset(path), dataset(result.data)
    assert [area.window for area in after.val] == [area.window for area in before.val]
    assert [source.weights is None for source in after.labeled.sources] == [True, False]
    labels = pixels(tmp_path / "out" / "labels" / "scene.tif")
    for item in after.labeled.items:
        crop = after.labeled.draw(after.labeled.items.index(item), np.random.default_rng(0))
        assert ((crop.weights > 0) | (crop.labels == 255)).all()
    after.labeled.release()
    assert sum(after.counts) >= (labels != 255).sum() - 16 * 24
    assert not Path(yaml.safe_load(result.data.read_text())["labeled"][1]["labels"]).is_absolute()


def test_a_second_round_replaces_the_labels_of_the_first(tmp_path, model, scene, large):
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE))
    first = run([scene, large], tmp_path / "one", model, threshold=0.5, keep_labels=path)
    second = run(scene, tmp_path / "two", model, threshold=0.5, keep_labels=first.data)
    entries = yaml.safe_load(second.data.read_text())["labeled"]
    assert [entry["labels"] for entry in entries] == ["../few.tif", "../one/labels/large.tif", "labels/scene.tif"]
    assert second.total.human == 8 * 12 + 2 * 4
    assert len(dataset(second.data).labeled.sources) == 3


def test_the_next_round_reads_raster_labels_and_polygons_by_the_same_values(tmp_path, model, scene):
    values = {7: "water", 9: 2, 200: None, "1": "town"}
    few = np.full((SIDE, SIDE), 200, np.uint8)
    few[:8, :12], few[8:10, :4] = 9, 7
    write_raster(tmp_path / "coded.tif", few)
    with rasterio.open(scene) as opened:
        box = shapely.box(*opened.transform @ (40, 60), *opened.transform @ (60, 40))
        frame = geopandas.GeoDataFrame({"code": [7]}, geometry=[box], crs=opened.crs)
    frame.to_file(tmp_path / "coded.gpkg")
    labeled = [
        {"image": "scene.tif", "labels": "coded.tif", "values": values},
        {"image": "scene.tif", "labels": "coded.gpkg", "values": values, "attribute": "code"},
    ]
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE), labeled=labeled)
    result = run(scene, tmp_path / "out", model, threshold=0.99, keep_labels=path)
    again = read_data(result.data)
    assert [entry.values for entry in again.labeled[:2]] == [values, values]
    before, after = dataset(path), dataset(result.data)
    assert (after.counts[0], after.counts[2]) >= (before.counts[0], before.counts[2]) >= (400 + 8, 96)


def test_an_image_that_validates_as_a_whole_trains_nobody(tmp_path, model, scene, large, caplog):
    val = [{"image": "scene.tif", "labels": "truth.tif"}]
    labeled = [{"image": "large.tif", "labels": "other.tif"}]
    write_raster(tmp_path / "other.tif", np.full((150, 170), 3, np.uint8))
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE), val=val, labeled=labeled, unlabeled=["large.tif"])
    result = run([scene, large], tmp_path / "out", model, threshold=0.5, keep_labels=path)
    content = yaml.safe_load(result.data.read_text())
    assert [entry["image"] for entry in content["labeled"]] == ["../large.tif", "../large.tif"]
    assert result.scenes[0].summary.precision is not None
    assert f"{scene}: all of it is validation data" in caplog.text
    assert f"{large}: all of it" not in caplog.text
    dataset(result.data)


def test_without_human_labels_the_model_says_what_the_data_are(tmp_path, model, scene, caplog):
    result = run(scene, tmp_path / "out", model, threshold=0.5)
    assert "--keep-labels" in caplog.text
    config = read_data(result.data)
    assert config.class_map.names == NAMES
    assert config.scaling.high == (255, 255, 255)
    assert len(config.labeled) == 1


def test_bands_picked_by_hand_are_picked_by_the_next_round(tmp_path, model, scene):
    with rasterio.open(scene) as opened:
        write_raster(tmp_path / "bgr.tif", opened.read()[::-1])
    result = run(tmp_path / "bgr.tif", tmp_path / "out", model, threshold=0.5, bands="3,2,1")
    read = dataset(result.data, crop=16)
    assert [source.scene.bands for source in read.labeled.sources] == [(3, 2, 1)]
    assert [source.scene.bands for source in read.unlabeled.sources] == [(3, 2, 1)]
    path, _, _ = human_data(tmp_path, tmp_path / "bgr.tif", (SIDE, SIDE))
    result = run(tmp_path / "bgr.tif", tmp_path / "two", model, threshold=0.5, bands="3,2,1", keep_labels=path)
    assert [source.scene.bands for source in dataset(result.data).labeled.sources] == [(1, 2, 3), (3, 2, 1)]
    four = write_raster(tmp_path / "four.tif", noise((4, SIDE, SIDE)), photometric="minisblack")
    path, _, _ = human_data(tmp_path, four, (SIDE, SIDE), bands=["blue", "green", "red", "infrared"])
    with pytest.raises(ConfigError, match="names 4 bands, --bands picks 3"):
        run(four, tmp_path / "three", model, bands="3,2,1", keep_labels=path)


def test_what_is_no_data_by_hand_is_none_in_the_next_round(tmp_path, model):
    values = noise((3, SIDE, SIDE), seed=5)
    values[values == 7] = 8
    values[:, :, 50:] = 7
    path = write_raster(tmp_path / "collar.tif", values)
    result = run(path, tmp_path / "out", model, threshold=0.3, nodata=7)
    read = dataset(result.data, crop=16)
    for source in (*read.labeled.sources, *read.unlabeled.sources):
        with source.scene.reader() as reader:
            valid = reader.read(Window(0, 0, SIDE, SIDE)).valid
        assert valid[:, :50].all()
        assert not valid[:, 50:].any()


def test_a_scene_that_could_not_train_beside_the_kept_labels_is_refused(tmp_path, model, scene):
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE))
    deep = write_raster(tmp_path / "deep.tif", noise((3, SIDE, SIDE)).astype(np.uint16) * 40)
    with pytest.raises(InputError, match=r"samples of uint16, the images of .*yaml have uint8"):
        run([scene, deep], tmp_path / "out", model, scale="auto", keep_labels=path)
    assert not (tmp_path / "out").exists()


def test_the_next_round_scales_as_the_model_saw_the_scenes(tmp_path, model, scene, caplog):
    deep = noise((3, SIDE, SIDE), seed=3).astype(np.uint16) * 40 + 5
    deep[0] = 77
    write_raster(tmp_path / "deep.tif", deep)
    with pytest.raises(ConfigError, match="samples of uint16, uint8"):
        run([tmp_path / "deep.tif", scene], tmp_path / "out", model, scale="auto")
    assert not (tmp_path / "out").exists()
    result = run(tmp_path / "deep.tif", tmp_path / "out", model, threshold=0.5, scale="auto")
    low, high = np.percentile(deep.reshape(3, -1).astype(float), (2, 98), axis=1)
    read = dataset(result.data, crop=16)
    assert (read.scaling.dtype, read.scaling.low[0], read.scaling.high[0]) == ("uint16", 77, 77)
    np.testing.assert_allclose((read.scaling.low, read.scaling.high), (low, high))
    dark = write_raster(tmp_path / "dark.tif", noise((3, SIDE, SIDE)) // 2)
    result = run([scene, dark], tmp_path / "both", model, threshold=0.5, scale="p0-100")
    assert "ranges of its own" in caplog.text
    with rasterio.open(scene) as one, rasterio.open(dark) as other:
        lowest, highest = other.read().min(axis=(1, 2)), one.read().max(axis=(1, 2))
    scaling = read_data(result.data).scaling
    assert (scaling.low, scaling.high) == (tuple(lowest), tuple(highest))


def test_nothing_sure_is_told_and_nothing_to_train_on_is_written(tmp_path, model, scene, caplog):
    result = run(scene, tmp_path / "out", model, min_area=SIDE * SIDE + 1)
    assert (result.total.labelled, result.data, result.text()) == (0, None, "")
    assert "no pixel reaches its confidence threshold" in caplog.text
    assert "and no data.yaml" in caplog.text
    assert (tmp_path / "out" / "pseudo.json").exists()


def test_nothing_sure_beside_human_labels_says_that_these_are_left(tmp_path, model, scene, caplog):
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE))
    result = run(scene, tmp_path / "out", model, threshold=1, min_area=SIDE * SIDE + 1, keep_labels=path)
    assert "data.yaml holds human labels only" in caplog.text
    assert [str(entry.labels)[-7:] for entry in read_data(result.data).labeled] == ["few.tif"]


def test_truth_is_read_by_its_own_attribute_and_values(tmp_path, model, scene):
    west, south, east, north = rasterio.open(scene).bounds
    box = geopandas.GeoDataFrame({"kind": ["wet"]}, geometry=[shapely.box(west, south, east, north)], crs="EPSG:32633")
    box.to_file(tmp_path / "plots.gpkg")
    by_name = {"truth": tmp_path / "plots.gpkg", "attribute": "kind", "values": ["wet=water,dry=none"]}
    result = run(scene, tmp_path / "out", model, threshold=0.5, **by_name)
    found = rasters(tmp_path / "out", "scene")
    kept = found["confidence"] >= 0.5
    assert result.total.precision == pytest.approx((found["candidates"][kept] == NAMES.index("water")).mean())


def test_another_threshold_needs_no_second_look_of_the_model(tmp_path, model, large, monkeypatch):
    out = tmp_path / "out"
    run(large, out, model, threshold=0.9)
    with pytest.raises(OutputError, match=r"data\.yaml: exists"):
        run(large, out, model, threshold=0.6)
    again = run(large, out, model, threshold=0.6, overwrite=True)
    assert again.made[0].state == "done"
    found = rasters(out, "large")
    np.testing.assert_array_equal(found["labels"] != 255, found["confidence"] >= 0.6)
    assert run(large, out, model, threshold=0.6, resume=True).made[0].state == "done"
    with pytest.raises(InterruptError):
        run(large, out, model, threshold=0.7, overwrite=True, progress=Interrupting("labelling", 0))
    assert not (out / "data.yaml").exists()  # it would name labels of two cuts
    other = run(large, out, model, threshold=0.6, agree="both", overwrite=True)
    assert other.made[0].state == "made"


class Interrupting(Silent):
    """Ctrl-C after some windows or rows of a stage."""

    def __init__(self, stage, after):
        self.stage, self.left, self.now = stage, after, None

    def start(self, label, total, unit, scene=""):
        self.now = label

    def advance(self, count=1, **facts):
        self.left -= count if self.now == self.stage else 0
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("stage", "after"), [("windows", 9), ("counting", 0), ("labelling", 20)])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, model, scene, large, stage, after, monkeypatch):
    monkeypatch.setattr(labelling, "_STRIP_PIXELS", 170 * 16)
    rule = {"threshold_per_class": "auto", "min_area": 3}
    whole = run([scene, large], tmp_path / "whole", model, **rule)
    with pytest.raises(InterruptError, match="run the same command again"):
        run([scene, large], tmp_path / "out", model, progress=Interrupting(stage, after), **rule)
    assert not (tmp_path / "out" / "data.yaml").exists()
    again = run([scene, large], tmp_path / "out", model, **rule)
    assert [made.state for made in again.made] == ["done", "resumed" if stage == "windows" else "done"]
    assert again.total == whole.total
    for kind in ("labels", "mask", "weights"):
        for name in ("scene", "large"):
            one, other = (tmp_path / folder / kind / f"{name}.tif" for folder in ("whole", "out"))
            assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "out").rglob(".*"))
    assert not folder_of(tmp_path / "out" / "candidates" / "large.tif").exists()


def test_one_of_several_scenes_fails_and_the_others_are_labelled(tmp_path, model, scene):
    broken = tmp_path / "broken.tif"
    broken.write_text("no raster")
    result = run([broken, scene], tmp_path / "out", model, threshold=0.5)
    assert [one.source for one in result.scenes] == [str(scene)]
    assert len(read_data(result.data).labeled) == 1
    with pytest.raises(PartialError, match="1 of 2 scenes failed"):
        result.check()
    with pytest.raises(InputError, match=r"broken\.tif"):
        run(broken, tmp_path / "alone", model)


def test_outside_the_area_nothing_is_labelled(tmp_path, model, scene):
    with rasterio.open(scene) as dataset:
        box = shapely.box(*dataset.transform @ (10, 50), *dataset.transform @ (40, 20))
        geopandas.GeoDataFrame(geometry=[box], crs=dataset.crs).to_file(tmp_path / "area.gpkg")
    run(scene, tmp_path / "out", model, threshold=0, aoi=tmp_path / "area.gpkg")
    rows, cols = np.nonzero(rasters(tmp_path / "out", "scene")["labels"] != 255)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 49, 10, 39)


def test_a_resampled_scene_gets_labels_of_its_own_pixels(tmp_path, model, large):
    run(large, tmp_path / "out", model, threshold=0.5, res=20.0)
    found = rasters(tmp_path / "out", "large")
    assert found["labels"].shape == (150, 170)
    np.testing.assert_array_equal(found["mask"] == 255, pixels(large) == 0)


def test_a_single_student_labels_by_itself(tmp_path, single, scene):
    result = run(scene, tmp_path / "out", single, threshold=0.5)
    assert result.total.disagreement is None
    assert not (tmp_path / "out" / "disagreement").exists()
    with pytest.raises(ConfigError, match="needs a model of two students"):
        run(scene, tmp_path / "other", single, agree="both")
    assert not (tmp_path / "other").exists()


def test_labels_of_other_origin_are_not_written_over(tmp_path, model, scene):
    (tmp_path / "labels").mkdir()
    mine = write_raster(tmp_path / "labels" / "scene.tif", np.zeros((SIDE, SIDE), np.uint8))
    before = Path(mine).read_bytes()
    with pytest.raises(OutputError, match="no pseudo-label that co2s has written"):
        run(scene, tmp_path, model)
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE), labeled=[{"image": "scene.tif", "labels": str(mine)}])
    with pytest.raises(ConfigError, match="would overwrite an input of this command"):
        run(scene, tmp_path, model, keep_labels=path, overwrite=True)
    with pytest.raises(ConfigError, match="would overwrite an input of this command"):
        run(scene, tmp_path, model, truth=tmp_path / "labels", overwrite=True)
    assert Path(mine).read_bytes() == before
    assert not (tmp_path / "candidates").exists()


def test_labels_of_other_classes_are_refused(tmp_path, model, scene):
    path, _, _ = human_data(tmp_path, scene, (SIDE, SIDE), classes=["a", "b", "c", "d"])
    with pytest.raises(ModelError, match="its classes are a, b, c, d, the model's are water"):
        run(scene, tmp_path / "out", model, keep_labels=path)


def test_a_dry_run_writes_nothing(tmp_path, model, scene):
    result = run(scene, tmp_path / "out", model, dry_run=True)
    assert result.estimates[0].windows == 1
    assert result.text()
    result.check()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_label_as_one(tmp_path, model, large):
    one = run(large, tmp_path / "one", model, threshold_per_class="auto")
    two = run(large, tmp_path / "two", model, threshold_per_class="auto", workers=2)
    assert one.total == two.total
