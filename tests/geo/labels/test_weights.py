"""Weights of labels: a number or a raster, read as it says."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from support.rasters import UTM, noise, write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.weights import open_weights
from co2s_cli.tiling import Window

GRID = Grid(20, 30, UTM["transform"])


def read(weights):
    with open_weights(weights, GRID).reader() as reader:
        return reader.read(Window(3, 4, 5, 6))


def test_a_number_is_the_same_everywhere():
    np.testing.assert_array_equal(read(0.25), np.full((5, 6), 0.25, np.float32))


def test_a_raster_is_scaled_as_it_says_and_weighs_nothing_where_it_holds_nothing(tmp_path):
    raw = noise((20, 30), low=0, high=256)
    path = Path(write_raster(tmp_path / "w.tif", raw, nodata=255))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (1 / 254,)
    expected = np.where(raw == 255, 0, raw / 254)[3:8, 4:10]
    np.testing.assert_allclose(read(path), expected, rtol=1e-6)
    assert read(path).dtype == np.float32


def test_floats_are_taken_as_they_are(tmp_path):
    raw = np.random.default_rng(0).random((20, 30), np.float32) * 3
    raw[4, 5] = np.nan
    path = Path(write_raster(tmp_path / "w.tif", raw, nodata=float("nan")))
    np.testing.assert_array_equal(read(path), np.nan_to_num(raw)[3:8, 4:10])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((20, 30), -1, np.float32), "not negative"),
        (np.full((20, 30), np.inf, np.float32), "finite"),
        (np.full((20, 31), 1, np.uint8), "31 × 20 pixels"),
        (np.full((2, 20, 30), 1, np.uint8), "one band, found 2"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path, array, words):
    path = Path(write_raster(tmp_path / "w.tif", array))
    with pytest.raises(InputError, match=words):
        read(path)


def test_a_missing_raster_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.tif: no such raster of weights"):
        open_weights(tmp_path / "gone.tif", GRID)
