"""What the terminal, the report and `co2s evaluate` say of one model is one number."""

import json

import numpy as np
import pytest
import rasterio
from support.rasters import write_raster
from support.training import VAL, landscape, quick
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from co2s_cli.data.landscape import CLASSES
from co2s_cli.jobs import train
from co2s_cli.scoring.report import percent

pytestmark = pytest.mark.slow  # a whole run, a second or two

ABSENT = 0
"""A class that nothing validates."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose validation has pixels without data and lacks a class; its folder, and the lines of its log."""
    folder = tmp_path_factory.mktemp("data")
    data = landscape(folder)
    with rasterio.open(folder / "scene.tif") as scene, rasterio.open(folder / "labels.tif") as labels:
        pixels, truth = scene.read().clip(1), labels.read(1)
    row, col = VAL[:2]
    pixels[:, row : row + 10, col : col + 30] = 0
    write_raster(folder / "scene.tif", pixels, nodata=0)
    write_raster(folder / "labels.tif", np.where(truth == ABSENT, (ABSENT + 1) % 6, truth).astype(np.uint8))
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("co2s_cli.training.engine.log.info", lambda text, *parts: lines.append(text % parts))
        train.run(quick(data, out, "val_every=1", steps=3))
    return data, out, lines


def test_terminal_report_and_evaluate_agree_on_the_best_model(co2s, run):
    data, out, lines = run
    result = co2s("evaluate", data, "--model", out / "best.safetensors", "--json", "--precision", "fp32")
    assert result.exit_code == 0, result.stderr
    verdict = json.loads(result.stdout)["verdict"]
    report = json.loads((out / "report.json").read_text())
    best = report["best_validation"]["fused"]
    assert best["miou"] == report["best"]["best.safetensors"]["miou"] == pytest.approx(verdict["miou"], abs=1e-12)
    assert best["accuracy"] == pytest.approx(verdict["accuracy"], abs=1e-12)
    assert best["kappa"] == pytest.approx(verdict["kappa"], abs=1e-12)
    assert best["pixels"] == verdict["pixels"] == 96 * 96 - 300
    assert report["confusion"] == verdict["confusion"]
    for item in verdict["classes"]:
        assert best["iou"][item["name"]] == (None if item["iou"] is None else pytest.approx(item["iou"], abs=1e-12))
    step = round(report["best"]["best.safetensors"]["step"])
    told = next(line for line in lines if line.startswith(f"step {step}  validation"))
    assert f"fused {percent(verdict['miou'])}" in told
    text = co2s("evaluate", data, "--model", out / "best.safetensors", "--precision", "fp32").stdout
    assert percent(verdict["miou"]) in text
    row = next(line for line in (out / "report.md").read_text().splitlines() if line.startswith("| mean |"))
    assert row.split("|")[2:5].count(f" {100 * verdict['miou']:.1f} ") >= 1


def test_a_class_that_nothing_validates_is_a_dash_everywhere(co2s, run):
    data, out, _ = run
    name = CLASSES.names[ABSENT]
    assert json.loads((out / "report.json").read_text())["best_validation"]["fused"]["iou"][name] is None
    rows = [line for line in (out / "report.md").read_text().splitlines() if line.startswith(f"| {name} |")]
    assert len(rows) == 2
    assert all("| – | – | – |" in row for row in rows)
    text = co2s("evaluate", data, "--model", out / "best.safetensors").stdout
    assert next(line for line in text.splitlines() if line.strip().startswith(name)).split()[1:6] == ["–"] * 5


def test_tensorboard_shows_crops_of_each_validation(run):
    _, out, _ = run
    events = EventAccumulator(str(out), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    assert tags
    assert tags[0] == "crop 1: image, labels, clip, dino, fused"
    assert [event.step for event in events.Images(tags[0])] == [1, 2, 3]
    assert events.Images(tags[0])[0].width == 5 * 64 + 4 * 4
