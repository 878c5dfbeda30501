"""Maps against truth from the command line: figures, folders, and what is said when something does not fit."""

import json
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from PIL import Image
from sklearn import metrics as oracle
from support.rasters import UTM, write_raster

from co2s_cli.classes import IGNORE

NAMES = ["water", "field", "forest", "town"]


def named(path, image, names=NAMES, **profile):
    write_raster(path, image, nodata=IGNORE, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES=json.dumps(names))
    return path


@pytest.fixture
def truth_image():
    return np.kron(np.arange(20).reshape(4, 5) % 4, np.ones((9, 9), int)).astype(np.uint8)


@pytest.fixture
def map_image(truth_image):
    rng = np.random.default_rng(0)
    found = np.where(rng.random(truth_image.shape) < 0.2, rng.integers(0, 4, truth_image.shape), truth_image)
    return found.astype(np.uint8)


@pytest.fixture
def pair(tmp_path, map_image, truth_image):
    return named(tmp_path / "map.tif", map_image), named(tmp_path / "truth.tif", truth_image)


def told(co2s, *arguments):
    result = co2s("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_table_names_every_class_and_every_figure(co2s, pair):
    result = co2s("evaluate", *pair)
    assert result.exit_code == 0, result.stderr
    for word in (*NAMES, "mean IoU", "mean F1", "boundary F1 (3 px)", "overall accuracy", "kappa", "1,620"):
        assert word in result.stdout
    assert "calibration" not in result.stdout


def test_figures_are_those_of_scikit_learn(co2s, pair, map_image, truth_image):
    verdict = told(co2s, *pair)["verdict"]
    flat = truth_image.ravel(), map_image.ravel()
    assert verdict["miou"] == pytest.approx(oracle.jaccard_score(*flat, average="macro"))
    assert verdict["mf1"] == pytest.approx(oracle.f1_score(*flat, average="macro"))
    assert verdict["kappa"] == pytest.approx(oracle.cohen_kappa_score(*flat))
    assert verdict["accuracy"] == pytest.approx(oracle.accuracy_score(*flat))
    assert verdict["confusion"] == oracle.confusion_matrix(*flat).tolist()


def test_the_folder_holds_report_and_pictures_and_is_not_overwritten_by_chance(co2s, pair, map_image, tmp_path):
    sure = write_raster(tmp_path / "sure.tif", map_image * 50 + 40, nodata=IGNORE)
    with rasterio.open(sure, "r+") as dataset:
        dataset.scales = (1 / 254,)
    out = tmp_path / "report"
    result = co2s("evaluate", *pair, "--confidence", sure, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(out)
    for name in ("confusion.png", "reliability.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
    content = json.loads((out / "report.json").read_text())
    assert len(content["reliability"]["bins"]) == 15
    assert content["miou"] == told(co2s, *pair)["verdict"]["miou"]
    assert "calibration error" in (out / "report.md").read_text()
    again = co2s("evaluate", *pair, "--out", out)
    assert again.exit_code == 4
    assert "holds a report already" in again.stderr
    assert co2s("evaluate", *pair, "--out", out, "--overwrite").exit_code == 0
    assert not (out / "reliability.png").exists()


def test_a_permuted_legend_changes_nothing(co2s, pair, tmp_path, truth_image):
    order = np.array([2, 0, 3, 1], np.uint8)  # new id of each class
    names = [NAMES[old] for old in np.argsort(order)]
    moved = named(tmp_path / "moved.tif", order[truth_image], names)
    first, second = told(co2s, *pair), told(co2s, pair[0], moved)
    assert second["verdict"]["miou"] == first["verdict"]["miou"]
    assert second["verdict"]["confusion"] == first["verdict"]["confusion"]
    assert any("by name" in remark for remark in second["remarks"])


def test_ids_of_the_truth_may_be_those_of_a_data_yaml_or_be_said(co2s, pair, tmp_path, truth_image):
    order = np.array([2, 0, 3, 1], np.uint8)
    bare = write_raster(tmp_path / "bare.tif", order[truth_image] + 10)
    values = ",".join(f"{order[old] + 10}={name}" for old, name in enumerate(NAMES))
    wanted = told(co2s, *pair)["verdict"]["confusion"]
    assert told(co2s, pair[0], bare, "--values", values)["verdict"]["confusion"] == wanted
    data = {"classes": [NAMES[old] for old in np.argsort(order)], "labeled": [{"image": "a", "labels": "b"}]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    bare = write_raster(tmp_path / "bare.tif", order[truth_image])
    assert told(co2s, pair[0], bare, "--classes", tmp_path / "data.yaml")["verdict"]["confusion"] == wanted


def test_polygons_are_truth_too(co2s, pair, tmp_path):
    left, top = UTM["transform"] @ (3, 2)
    shapes = [shapely.box(left, top - 100, left + 100, top), shapely.box(left + 200, top - 50, left + 250, top)]
    frame = geopandas.GeoDataFrame({"kind": ["water", "town"]}, geometry=shapes, crs="EPSG:32633")
    frame.to_file(tmp_path / "truth.gpkg")
    verdict = told(co2s, pair[0], tmp_path / "truth.gpkg", "--attribute", "kind")["verdict"]
    assert [one["truth_pixels"] for one in verdict["classes"]] == [100, 0, 0, 25]


def test_another_grid_is_resampled_and_told(co2s, pair, tmp_path, truth_image):
    fine = np.kron(truth_image, np.ones((2, 2), np.uint8))
    place = UTM["transform"] @ rasterio.Affine.scale(0.5)
    found = co2s("evaluate", pair[0], named(tmp_path / "fine.tif", fine, transform=place))
    assert found.exit_code == 0
    assert "fine.tif: has 90 × 72 pixels, its map 45 × 36: resampled to the map's pixels" in found.stderr
    assert found.stdout.splitlines()[1:] == co2s("evaluate", *pair).stdout.splitlines()[1:]


def test_without_names_classes_are_numbers(co2s, tmp_path, map_image, truth_image):
    bare = [write_raster(tmp_path / f"{i}.tif", image) for i, image in enumerate((map_image, truth_image))]
    verdict = told(co2s, *bare)["verdict"]
    assert [one["name"] for one in verdict["classes"]] == [f"class {i}" for i in range(4)]


def test_pixels_without_a_class_are_told_or_wrong(co2s, pair, tmp_path, map_image):
    map_image[:9] = IGNORE
    holes = named(tmp_path / "holes.tif", map_image)
    skipped, wrong = told(co2s, holes, pair[1])["verdict"], told(co2s, holes, pair[1], "--missing", "wrong")["verdict"]
    assert skipped["missing_share"] == wrong["missing_share"] == pytest.approx(0.25)
    assert wrong["accuracy"] == pytest.approx(skipped["accuracy"] * 0.75)
    assert "labelled, no class on the map (left out)" in co2s("evaluate", holes, pair[1]).stdout


def test_protocols_leave_out_by_name(co2s, pair):
    plain = told(co2s, *pair)["verdict"]
    for protocol in ("mask", "dwl"):
        found = told(co2s, *pair, "--protocol", protocol, "--exclude", "town")["verdict"]
        assert [one["counts"] for one in found["classes"]] == [True, True, True, False]
        assert (found["pixels"] < plain["pixels"]) == (protocol == "mask")


def test_settings_may_come_from_a_file(co2s, pair, tmp_path):
    (tmp_path / "run.yaml").write_text("protocol: dwl\nexclude: [town]\nvalues: {0: water, 1: field, 2: null, 3: 3}\n")
    found = told(co2s, *pair, "--config", tmp_path / "run.yaml")["verdict"]
    assert found["excluded"] == ["town"]
    assert found["classes"][2]["truth_pixels"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["map.tif"], 2, "wants MAP TRUTH, or --model MODEL data.yaml"),
        (["map.tif", "truth.tif", "--model", "m"], 2, "truth: not with --model"),
        (["map.tif", "truth.tif", "--split", "labeled"], 2, "split: not with MAP TRUTH"),
        (["map.tif", "truth.tif", "--exclude", "town"], 2, "wants --protocol mask, dwl or published"),
        (["map.tif", "truth.tif", "--protocol", "mask"], 2, "wants --exclude NAME"),
        (["map.tif", "truth.tif", "--root", "."], 2, "root: not with MAP TRUTH"),
        (["whdld", "--model", "m"], 2, "data set whdld wants --root"),
        (["data.yaml", "--model", "m", "--splits", "."], 2, "--splits wants --root"),
        (["whdld", "--model", "m", "--root", ".", "--split", "test"], 2, "--split test wants --splits"),
        (["map.tif", "truth.tif", "--protocol", "mask", "--exclude", "3"], 2, "no such class (known: water"),
        (["map.tif", "truth.tif", "--values", "3"], 2, "VALUE=CLASS"),
        (["map.tif", "truth.tif", "--values", "0=lava"], 3, "no class (known: water"),
        (["map.tif", "truth.tif", "--tolerance", "-1"], 2, "tolerance"),
        (["none.tif", "truth.tif"], 3, "none.tif: no such file"),
        (["map.tif", "none.tif"], 3, "none.tif: no such label file"),
        (["map.tif", "three.tif"], 3, "labels have one band, found 3"),
        (["three.tif", "truth.tif"], 3, "a class raster has one band"),
        (["map.tif", "blank.tif"], 3, "nothing is labelled"),
        (["blank.tif", "truth.tif"], 3, "has no class on any of the 1620 pixels"),
        (["map.tif", "high.tif"], 3, "value 9 is no class"),
        (["high.tif", "truth.tif"], 3, "value 9 has no name"),
        (["map.tif", "far.tif"], 3, "does not touch the map"),
        (["map.tif", "truth.tif", "--confidence", "high.tif"], 3, "confidences up to 9"),
        (["map.tif", "truth.tif", "--confidence", "blank.tif"], 3, "has no value on any pixel"),
        (["map.tif", "truth.tif", "--protocol", "published", "--overlap", "0.5"], 2, "overlap: not with"),
        (["map.tif", "truth.tif", "--confidence", "far.tif"], 3, "pixels off its class raster"),
        (["map.tif", "truth.tif", "--out", "map.tif/x"], 4, "cannot be made into a folder"),
        (["data.yaml", "--model", "none.safetensors"], 3, "none.safetensors"),
    ],
)
def test_mistakes_have_one_line_and_their_exit_codes(co2s, pair, tmp_path, monkeypatch, arguments, code, words):
    shape = (36, 45)
    write_raster(tmp_path / "three.tif", np.zeros((3, *shape), np.uint8))
    named(tmp_path / "blank.tif", np.full(shape, IGNORE, np.uint8))
    named(tmp_path / "high.tif", np.full(shape, 9, np.uint8))
    write_raster(tmp_path / "far.tif", np.zeros(shape, np.uint8), transform=rasterio.Affine(10, 0, 0, 0, -10, 0))
    (tmp_path / "data.yaml").write_text("classes: [a]\nlabeled: [{image: a, labels: b}]\n")
    monkeypatch.chdir(tmp_path)
    result = co2s("evaluate", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1


def test_names_for_a_map_without_any_are_asked_for_in_one_short_line(co2s, tmp_path, map_image):
    bare = write_raster(tmp_path / "bare.tif", map_image)
    shape = shapely.box(*UTM["transform"] @ (0, 9), *UTM["transform"] @ (9, 0))
    geopandas.GeoDataFrame({"class": ["lava"]}, geometry=[shape], crs="EPSG:32633").to_file(tmp_path / "t.gpkg")
    result = co2s("evaluate", bare, tmp_path / "t.gpkg")
    assert result.exit_code == 3
    assert "'lava' is no class (known: class 0, class 1," in result.stderr
    assert len(result.stderr) < 600


_PEAK = """
import resource, sys
from co2s_cli.config.evaluate import EvaluateConfig
from co2s_cli.jobs import evaluate
print(evaluate.run(EvaluateConfig(source=sys.argv[1], truth=sys.argv[2])).verdict.pixels)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map(tmp_path):
    def peak(side):
        """Bytes at most, of a map and a truth of class 0 everywhere: sparse files that take no disk."""
        paths = [tmp_path / f"{name}{side}.tif" for name in ("map", "truth")]
        for path in paths:
            with rasterio.open(
                path, "w", driver="GTiff", height=side, width=side, count=1, dtype="uint8", tiled=True,
                sparse_ok=True, **UTM,
            ):  # fmt: skip
                pass
        command = [sys.executable, "-c", _PEAK, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        pixels, kilobytes = map(int, done.stdout.split())
        assert pixels == side**2
        return kilobytes * 1024

    # the cache of 256 MB may fill; one array of the larger map would take 0.14 GB as bytes, 1.15 GB as numbers
    assert peak(12_000) < peak(1_500) + 320e6
