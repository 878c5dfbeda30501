"""A model against labelled areas: as predict maps them, as validation counts them."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import torch
import yaml
from support.models import save_tiny
from support.rasters import noise, write_raster
from support.training import VAL, landscape, quick

from co2s_cli.classes import IGNORE
from co2s_cli.config import load
from co2s_cli.config.data import read_data
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.data.areas import areas_of
from co2s_cli.data.landscape import CLASSES
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.jobs import evaluate, train
from co2s_cli.scoring import validation
from co2s_cli.scoring.area_map import mapper_for
from co2s_cli.scoring.counts import CountRules
from co2s_cli.scoring.matrix import confusion
from co2s_cli.scoring.model import count_model
from co2s_cli.scoring.streamed import recoding
from co2s_cli.training.names import LAST

pytestmark = pytest.mark.slow  # whole runs, a second each

PLAIN = {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "m.safetensors", classes=tuple(CLASSES.plain()))


def settings(source, model, **changes):
    return load(EvaluateConfig, None, {"source": str(source), "model": model, **PLAIN, **changes})


def test_counts_are_those_of_validation(tmp_path, model):
    data = read_data(landscape(tmp_path))
    mapper = mapper_for(settings("data.yaml", model), model)
    areas = areas_of(data, "val", crop=64, seed=0).areas
    found = count_model(mapper, areas, recoding(tuple(range(6))), CountRules())
    pair = mapper.model
    scaling = Scaling(pair.manifest.scaling.low, pair.manifest.scaling.high)
    tally = validation.evaluate(
        pair, areas, scaling, mapper.sliding, threshold=torch.full((6,), 0.9), device=torch.device("cpu")
    )
    np.testing.assert_array_equal(found.tally.matrix[:6, :6], tally.confusions[validation.FUSED])
    for name, matrix in found.students.items():
        np.testing.assert_array_equal(matrix[:6, :6], tally.confusions[name])


def test_a_model_scores_what_its_map_scores(co2s, tmp_path, model):
    data = landscape(tmp_path, val=[{"image": "scene.tif", "labels": "labels.tif"}])
    by_model = evaluate.run(settings(data, model)).verdict
    paths = [tmp_path / name for name in ("map.tif", "sure.tif")]
    assert co2s(
        "predict", tmp_path / "scene.tif", "--model", model, "--out", paths[0], "--confidence", paths[1],
        "--precision", "fp32", "--device", "cpu",
    ).exit_code == 0  # fmt: skip
    by_map = evaluate.run(
        EvaluateConfig(source=str(paths[0]), truth=tmp_path / "labels.tif", confidence=str(paths[1]))
    ).verdict
    for name in ("miou", "accuracy", "kappa", "boundary_f1", "mf1"):
        assert getattr(by_model, name) == pytest.approx(getattr(by_map, name), abs=1e-3), name
    assert by_model.reliability.ece == pytest.approx(by_map.reliability.ece, abs=1e-3)


def test_a_window_of_a_scene_scores_what_the_map_of_the_scene_scores_there(co2s, tmp_path, model):
    row, col, height, width = 70, 90, 32, 41  # half a window of the model: alone it would be mirrored
    data = landscape(
        tmp_path, val=[{"image": "scene.tif", "labels": "labels.tif", "windows": [[row, col, height, width]]}]
    )
    by_model = evaluate.run(settings(data, model)).verdict
    assert co2s(
        "predict", tmp_path / "scene.tif", "--model", model, "--out", tmp_path / "map.tif",
        "--precision", "fp32", "--device", "cpu",
    ).exit_code == 0  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as drawn, rasterio.open(tmp_path / "labels.tif") as labels:
        inside = np.s_[row : row + height, col : col + width]
        expected = confusion(labels.read(1)[inside], drawn.read(1)[inside], 6)
    assert np.abs(np.array(by_model.confusion)[:6, :6] - expected).sum() <= 4  # a tie of rounding may fall otherwise


def test_a_large_area_in_pieces_is_counted_like_a_whole_map(tmp_path, model, monkeypatch):
    monkeypatch.setattr(validation, "PART_SIDE", 64)
    entry = {"image": "scene.tif", "labels": "labels.tif", "windows": [[5, 7, 150, 90]]}
    data = read_data(landscape(tmp_path, val=[entry]))
    mapper = mapper_for(settings("data.yaml", model), model)
    areas = areas_of(data, "val", crop=64, seed=0).areas
    found = count_model(mapper, areas, recoding(tuple(range(6))), CountRules())
    assert found.tally.matrix.sum() == 150 * 90
    assert len(validation.area_parts(areas[0], whole=False)) == 6
    drawn = mapper.make(areas[0]).predicted
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        truth = dataset.read(1)[5:155, 7:97]
    assert np.abs(found.tally.matrix[:6, :6] - confusion(truth, drawn, 6)).sum() <= 4


def test_classes_are_matched_by_name(tmp_path, model):
    data = landscape(tmp_path)
    first = evaluate.run(settings(data, model)).verdict
    order = [3, 1, 0, 2, 5, 4]
    names = [CLASSES.names[old] for old in order]
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        truth = dataset.read(1)
    write_raster(tmp_path / "labels.tif", np.argsort(order).astype(np.uint8)[truth])
    data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "classes": names}))
    assert evaluate.run(settings(data, model)).verdict.confusion == first.confusion


def test_the_labels_that_train_can_be_asked_for(tmp_path, model):
    data = landscape(tmp_path)
    result = evaluate.run(settings(data, model, split="labeled"))
    with rasterio.open(tmp_path / "few.tif") as dataset:
        assert result.verdict.pixels == (dataset.read(1) != IGNORE).sum()
    assert "labeled, 1 areas" in result.truth


def test_invalid_pixels_have_no_class(tmp_path, model):
    data = landscape(tmp_path)
    with rasterio.open(tmp_path / "scene.tif") as dataset:
        pixels = dataset.read().clip(1)
    row, col = VAL[:2]
    pixels[:, row : row + 10, col : col + 20] = 0
    write_raster(tmp_path / "scene.tif", pixels, nodata=0)
    assert evaluate.run(settings(data, model)).verdict.missing == 200


def test_a_share_that_was_not_drawn_by_the_training_is_told(tmp_path, model, caplog):
    result = evaluate.run(settings(landscape(tmp_path, val=0.3), model))
    assert any("it may have seen them" in remark for remark in result.remarks)
    assert any(
        "it may have seen them" in record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    )


@pytest.mark.parametrize("method", ["supervised", "co2s"])
def test_a_drawn_share_is_that_of_the_models_training_wherever_the_data_lies(tmp_path, method):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    entries = [{"image": name, "labels": "few.tif"} for name in ("scene.tif", "other.tif")]
    landscape(before, val=0.3, labeled=entries)
    shutil.copy(before / "scene.tif", before / "other.tif")
    run = quick(
        before / "data.yaml", tmp_path / "run", "eval_tile=32", method=method, seed=5, labeled_ratio=0.5, steps=1
    )
    train.run(run)
    before.rename(after)
    result = evaluate.run(settings(after / "data.yaml", tmp_path / "run" / LAST, precision="fp32"))
    assert result.remarks == ()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # validation takes its mean over the labelled classes; the plain protocol counts those of the map alone, too, as 0
    expected = np.mean([score.iou for score in result.verdict.classes if score.truth_pixels])
    assert [line["fused/miou"] for line in lines if "fused/miou" in line] == [pytest.approx(expected, abs=0.02)]


def test_a_ratio_that_other_data_are_too_few_for_is_left_out(tmp_path):
    trained = save_tiny(
        tmp_path / "t.safetensors", classes=tuple(CLASSES.plain()), training={"seed": 5, "labeled_ratio": 0.1}
    )
    assert evaluate.run(settings(landscape(tmp_path, val=0.3), trained)).verdict.pixels > 0


def test_published_scores_count_absent_classes(tmp_path, model):
    result = evaluate.run(settings(landscape(tmp_path), model, protocol="published", tile=64))
    ious = [one.iou or 0 for one in result.verdict.classes]
    assert result.verdict.miou == pytest.approx(np.mean(ious))
    assert set(result.students) == {"clip", "dino"}


def test_the_report_of_a_model_names_its_students(tmp_path, model):
    evaluate.run(settings(landscape(tmp_path), model, out=tmp_path / "r"))
    assert set(json.loads((tmp_path / "r" / "report.json").read_text())["students"]) == {"clip", "dino"}


def test_a_student_that_is_not_there_is_refused(co2s, tmp_path):
    model = save_tiny(tmp_path / "m.safetensors", students=("dino",), classes=tuple(CLASSES.plain()))
    result = co2s("evaluate", landscape(tmp_path), "--model", model, "--fusion", "clip")
    assert result.exit_code == 5
    assert "holds only dino" in result.stderr


def test_imagery_that_is_not_the_models_is_refused(co2s, tmp_path, model):
    data = landscape(tmp_path)
    write_raster(tmp_path / "scene.tif", noise((3, 256, 256), "uint16"))
    result = co2s("evaluate", data, "--model", model)
    assert result.exit_code == 3
    assert "samples are uint16" in result.stderr


def test_where_data_yaml_names_no_bands_those_of_the_model_are_read_by_name(co2s, tmp_path, model):
    wanted = json.loads(co2s("evaluate", landscape(tmp_path), "--model", model, "--json").stdout)
    with rasterio.open(tmp_path / "scene.tif") as scene:
        red, green, blue = scene.read()
    data = landscape(tmp_path, bands=None)
    four = np.stack([green, blue, green, red])
    write_raster(tmp_path / "scene.tif", four, names=("nir", "blue", "green", "red"))
    result = co2s("evaluate", data, "--model", model, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdict"] == wanted["verdict"]
