"""Windows around the regions of a label raster."""

import numpy as np
import pytest
from scipy import ndimage
from support.rasters import write_raster

from co2s_cli.classes import IGNORE
from co2s_cli.data.holdout import drawn_places
from co2s_cli.data.sources import Source
from co2s_cli.geo.labels import labels as labels_module
from co2s_cli.geo.labels.labels import RasterLabels
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window


def raster(path, values):
    write_raster(path, values)
    return RasterLabels(str(path), 3, ("a", "b", "c"), {})


@pytest.mark.parametrize("strip", [16, 50, 1000])
def test_windows_hold_whole_regions_whatever_the_strips(tmp_path, monkeypatch, strip):
    monkeypatch.setattr(labels_module, "STRIP", strip)
    rng = np.random.default_rng(strip)
    values = np.full((90, 120), IGNORE, np.uint8)
    for row, col in rng.integers(0, (80, 110), (12, 2)):
        values[row : row + rng.integers(1, 9), col : col + rng.integers(1, 9)] = rng.integers(3)
    windows = raster(tmp_path / "labels.tif", values).windows(90, 120, margin=2)
    owner = np.zeros(values.shape, int)
    for number, window in enumerate(windows, 1):
        assert not owner[window.slices].any(), "windows share pixels"
        owner[window.slices] = number
    parts, count = ndimage.label(values != IGNORE, np.ones((3, 3)))
    for part in range(1, count + 1):
        (number,) = set(owner[parts == part].tolist())
        assert number > 0
    assert 1 < len(windows) <= count


def test_dense_labels_and_noise_are_no_regions(tmp_path, monkeypatch):
    dense = np.full((64, 64), IGNORE, np.uint8)
    dense[:20, :30] = dense[32:52, :30] = 1
    write_raster(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint8))
    source = Source(Scene.open(str(tmp_path / "scene.tif")), raster(tmp_path / "dense.tif", dense))
    assert len(drawn_places(0, source, 3, 0)) == 2
    assert drawn_places(0, source, 3, np.count_nonzero(dense != IGNORE)) == []
    points = np.full((64, 64), IGNORE, np.uint8)
    points[::16, ::16] = 1
    assert len(raster(tmp_path / "points.tif", points).windows(64, 64, margin=4)) == 16
    monkeypatch.setattr(labels_module, "_MOST_REGIONS", 3)
    monkeypatch.setattr(labels_module, "STRIP", 32)
    assert raster(tmp_path / "points.tif", points).windows(64, 64, margin=4) == []


def test_no_labels_have_no_windows(tmp_path):
    nothing = np.full((20, 20), IGNORE, np.uint8)
    assert raster(tmp_path / "none.tif", nothing).windows(20, 20, margin=4) == []
    nothing[19, 19] = 0
    assert raster(tmp_path / "one.tif", nothing).windows(20, 20, margin=4) == [Window(15, 15, 5, 5)]
