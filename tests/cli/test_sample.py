"""`co2s sample` writes a scene, its labels, a few of them, and a data.yaml that names them truly."""

import json
import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.features import rasterize

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.sample import SampleConfig
from co2s_cli.data.landscape import CLASSES, Landscape
from co2s_cli.jobs import sample as job
from co2s_cli.tiling import Window

FILES = {"scene.tif", "labels.tif", "few.tif", "few.gpkg", "data.yaml"}


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of scene 5, 600² pixels."""
    folder = tmp_path_factory.mktemp("sample")
    job.run(SampleConfig(folder=folder, size=600, seed=5))
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))


def test_scene_and_labels_are_the_landscape(folder):
    pixels, labels = Landscape(5, 600).block(Window(0, 0, 600, 600))
    np.testing.assert_array_equal(read(folder / "scene.tif"), pixels)
    np.testing.assert_array_equal(read(folder / "labels.tif")[0], labels)


def test_rasters_share_a_metric_grid_and_labels_have_nodata_and_a_palette(folder):
    with (
        rasterio.open(folder / "scene.tif") as scene,
        rasterio.open(folder / "labels.tif") as labels,
        rasterio.open(folder / "few.tif") as few,
    ):
        assert scene.transform == labels.transform == few.transform
        assert scene.crs == labels.crs == few.crs
        assert scene.crs.is_projected
        assert scene.res == (0.5, 0.5)
        assert scene.nodata == 0
        assert labels.nodata == few.nodata == IGNORE
        assert labels.colormap(1)[5][:3] == CLASSES.colors[5]
        assert scene.block_shapes[0] == labels.block_shapes[0] == (512, 512)


def test_the_few_labels_are_true_and_few(folder):
    few, labels = read(folder / "few.tif")[0], read(folder / "labels.tif")[0]
    labelled = few != IGNORE
    assert 0.01 < labelled.mean() < 0.05
    np.testing.assert_array_equal(few[labelled], labels[labelled])
    assert len(np.unique(few[labelled])) >= 4


def test_the_few_polygons_say_the_same_as_the_few_pixels(folder):
    frame = gpd.read_file(folder / "few.gpkg")
    with rasterio.open(folder / "few.tif") as few:
        shapes = [(outline, CLASSES.id_of(name)) for outline, name in zip(frame.geometry, frame["class"], strict=True)]
        burnt = rasterize(shapes, out_shape=few.shape, fill=IGNORE, transform=few.transform, dtype="uint8")
        np.testing.assert_array_equal(burnt, few.read(1))
        assert frame.crs == few.crs


def test_data_yaml_names_files_that_exist_and_says_what_the_scene_is(folder, data):
    assert ClassMap.of(data["classes"]) == CLASSES
    assert data["labeled"] == [{"image": "scene.tif", "labels": "few.tif"}]
    assert data["unlabeled"] == ["scene.tif"]
    assert [(entry["image"], entry["labels"]) for entry in data["val"]] == [("scene.tif", "labels.tif")]
    assert data["bands"] == ["red", "green", "blue"]
    assert data["scaling"] == {"dtype": "uint8", "low": [0, 0, 0], "high": [255, 255, 255]}
    assert data["ground_resolution"] == 0.5
    assert {path.name for path in folder.iterdir()} >= FILES


def test_validation_windows_are_labelled_throughout_and_untouched_by_the_few(folder, data):
    few, labels = read(folder / "few.tif")[0], read(folder / "labels.tif")[0]
    windows = data["val"][0]["windows"]
    assert windows
    for row, col, height, width in windows:
        part = np.s_[row : row + height, col : col + width]
        assert labels[part].shape == (height, width)
        assert (labels[part] != IGNORE).all()
        assert (few[part] == IGNORE).all()


def test_the_command_prints_paths_or_json(co2s, tmp_path):
    plain = co2s("sample", tmp_path / "a", "--size", 100, "--seed", 3)
    assert plain.exit_code == 0
    assert plain.stdout.split() == [str(tmp_path / "a" / name) for name in job.NAMES]
    told = co2s("sample", tmp_path / "b", "--size", 100, "--seed", 3, "--json")
    result = json.loads(told.stdout)
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert result["data"] == str(tmp_path / "b" / "data.yaml")
    np.testing.assert_array_equal(read(tmp_path / "a" / "scene.tif"), read(tmp_path / "b" / "scene.tif"))


def test_all_options_together(co2s, tmp_path):
    flags = ("--bands", 4, "--dtype", "uint16", "--tilt", "--classes", "built=building+road+pavement,vegetation")
    result = co2s("sample", tmp_path, "--size", 300, "--seed", 4, *flags)
    assert result.exit_code == 0, result.output
    labels, pixels = read(tmp_path / "labels.tif")[0], read(tmp_path / "scene.tif")
    assert pixels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 1, IGNORE}
    with rasterio.open(tmp_path / "scene.tif") as scene:
        unseen = scene.dataset_mask() == 0
        assert scene.descriptions == ("red", "green", "blue", "nir")
    assert unseen[0, 0]
    assert 0.1 < unseen.mean() < 0.5
    assert (labels[unseen] == IGNORE).all()
    data = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
    assert [item["name"] for item in data["classes"]] == ["built", "vegetation"]
    assert data["bands"] == ["red", "green", "blue", "nir"]
    assert data["scaling"]["dtype"] == "uint16"


def test_progress_counts_every_tile(tmp_path):
    class Watcher:
        total = done = closed = 0

        def start(self, label, total, unit, scene=""):
            self.total += total

        def advance(self, count=1, **facts):
            self.done += count

        def close(self):
            self.closed += 1

    watcher = Watcher()
    job.run(SampleConfig(folder=tmp_path, size=520, seed=1), progress=watcher)
    assert watcher.done == watcher.total == 4
    assert watcher.closed == 1


def test_existing_outputs_are_kept_unless_told_otherwise(co2s, tmp_path):
    (tmp_path / "few.gpkg").write_text("mine")
    refused = co2s("sample", tmp_path, "--size", 64)
    assert refused.exit_code == 4
    assert "few.gpkg: exists" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["few.gpkg"]
    assert co2s("sample", tmp_path, "--size", 64, "--overwrite").exit_code == 0
    assert len(gpd.read_file(tmp_path / "few.gpkg")) > 0


def test_a_folder_that_is_a_file_is_refused(co2s, tmp_path):
    (tmp_path / "a").write_text("")
    result = co2s("sample", tmp_path / "a")
    assert result.exit_code == 4
    assert "cannot be made into a folder" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(co2s, tmp_path):
    tmp_path.chmod(0o500)
    assert co2s("sample", tmp_path).exit_code == 4


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--classes", "road,moon"), "no class is called 'moon'"),
        (("--bands", "5"), "bands"),
        (("--dtype", "float32"), "dtype"),
        (("--size", "0"), "size"),
        (("--seed", "-1"), "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(co2s, tmp_path, flags, told):
    result = co2s("sample", tmp_path / "new", *flags)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_scene_that_fails_half_way_leaves_no_file(tmp_path, monkeypatch):
    def broken(self, window):
        raise MemoryError

    monkeypatch.setattr(Landscape, "block", broken)
    with pytest.raises(MemoryError):
        job.run(SampleConfig(folder=tmp_path, size=64))
    assert not list(tmp_path.iterdir())


def test_the_sample_of_the_repository_is_small_and_what_its_readme_says():
    sample = Path(__file__).resolve().parents[2] / "sample_data"
    assert sum(path.stat().st_size for path in sample.iterdir()) <= 3_000_000
    for name, seed, size in (("scene.tif", 13, 1024), ("second.tif", 10, 448)):
        pixels, _ = Landscape(seed, size).block(Window(0, 0, 448, 448))
        stored = read(sample / name)
        assert stored.shape == (3, size, size)
        off = np.abs(stored[:, :448, :448].astype(int) - pixels)
        assert (off > 2).mean() < 1e-3  # another processor may round a pixel on an edge to its other side
    few, labels = read(sample / "few.tif"), read(sample / "labels.tif")
    np.testing.assert_array_equal(few[few != IGNORE], labels[few != IGNORE])
    assert len(np.unique(few)) == len(CLASSES) + 1
    data = yaml.safe_load((sample / "data.yaml").read_text(encoding="utf-8"))
    assert all((sample / name).is_file() for name in data["unlabeled"])
