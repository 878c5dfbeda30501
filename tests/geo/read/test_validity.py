"""A pixel is valid where rasterio's dataset_mask says so, and where it is a number."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support.rasters import noise, write_raster

from co2s_cli.geo.read import reader as scene_reader
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

SHAPE = (40, 50)
WHOLE = Window(0, 0, *SHAPE)
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
FILES = [
    ("uint8", 0), ("uint8", 255), ("uint16", 0), ("uint16", 65535), ("int16", -9999), ("int16", 0),
    ("float32", float("nan")), ("float32", -9999.0), ("float32", -3.4028234663852886e38), ("uint8", None),
]  # fmt: skip


def valid(path, **options):
    scene = Scene.open(str(path), **options)
    with scene.reader() as reader:
        return reader.valid(Window(0, 0, scene.height, scene.width))


def oracle(path):
    with rasterio.open(path) as dataset:
        return dataset.dataset_mask() > 0


def with_holes(dtype, nodata, bands=3):
    """Bands that each miss other pixels, and all of them miss some."""
    array = noise((bands, *SHAPE), dtype)
    if nodata is not None:
        holes = np.random.default_rng(1).random(array.shape) < 0.3
        holes[:, :10, :10] = True
        array[holes] = nodata
    return array


@pytest.mark.parametrize(("dtype", "nodata"), FILES)
def test_nodata_of_any_value_and_type_is_what_dataset_mask_says(tmp_path, dtype, nodata):
    path = write_raster(tmp_path / "scene.tif", np.nan_to_num(with_holes(dtype, nodata), nan=nodata), nodata=nodata)
    expected = oracle(path)
    if dtype == "float32" and nodata != nodata:
        with rasterio.open(path) as dataset:
            expected &= ~np.isnan(dataset.read()).any(axis=0)
    assert (nodata is None) == bool(expected.all())
    np.testing.assert_array_equal(valid(path), expected)


def test_data_in_a_band_that_is_not_in_use_counts(tmp_path):
    path = write_raster(tmp_path / "scene.tif", with_holes("uint8", 0), nodata=0)
    np.testing.assert_array_equal(valid(path, bands=(2,)), oracle(path))


@pytest.mark.parametrize("sidecar", [True, False])
def test_a_mask_beside_or_inside_the_file_counts(tmp_path, sidecar):
    mask = np.random.default_rng(2).random(SHAPE) < 0.5
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar):
        path = write_raster(tmp_path / "scene.tif", noise((3, *SHAPE)), mask=mask)
    assert (tmp_path / "scene.tif.msk").exists() == sidecar
    np.testing.assert_array_equal(valid(path), mask)


@pytest.mark.parametrize("nodata", [None, 0])
def test_alpha_is_a_mask_also_beside_a_nodata_value(tmp_path, nodata):
    array = noise((4, *SHAPE), low=0, high=3)
    path = write_raster(tmp_path / "scene.tif", array, colors=RGBA, nodata=nodata)
    np.testing.assert_array_equal(valid(path), array[3] > 0)


def test_a_fourth_band_that_is_not_alpha_is_data(tmp_path):
    array = with_holes("uint8", 0, bands=4)
    path = write_raster(tmp_path / "scene.tif", array, photometric="RGB", alpha="NO", nodata=0)
    np.testing.assert_array_equal(valid(path), (array != 0).any(axis=0))


def test_a_band_marked_alpha_only_by_habit_but_described_as_something_else_is_data(tmp_path):
    array = noise((4, *SHAPE), low=0, high=3)
    path = write_raster(tmp_path / "scene.tif", array, names=("red", "green", "blue", "nir"), colors=RGBA)
    assert Scene.open(str(path)).bands == (1, 2, 3, 4)
    assert valid(path).all()


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 7), ("int16", -9999), ("float32", 7.0), ("float32", np.nan)])
def test_a_nodata_value_on_the_command_line_replaces_the_files(tmp_path, dtype, nodata):
    array = np.nan_to_num(with_holes(dtype, nodata), nan=nodata)
    path = write_raster(tmp_path / "scene.tif", array, nodata=1)
    expected = (array != nodata).any(axis=0) if nodata == nodata else ~np.isnan(array).any(axis=0)
    np.testing.assert_array_equal(valid(path, nodata=nodata), expected)


def test_a_nodata_value_that_the_samples_cannot_hold_hides_nothing(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((1, *SHAPE), low=0), nodata=0)
    assert valid(path, nodata=-9999).all()
    assert valid(path, nodata=0.5).all()
    assert valid(path, nodata=float("nan")).all()


def test_dark_water_is_data_where_the_files_nodata_value_is_dropped(tmp_path):
    path = write_raster(tmp_path / "scene.tif", with_holes("uint8", 0), nodata=0)
    assert not valid(path).all()
    assert valid(path, nodata="none").all()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_in_a_band_in_use_is_invalid(tmp_path, number):
    array = noise((3, *SHAPE), "float32")
    array[0, 3, 4] = array[2, 5, 6] = number
    path = write_raster(tmp_path / "scene.tif", array)
    assert np.argwhere(~valid(path)).tolist() == [[3, 4], [5, 6]]
    assert np.argwhere(~valid(path, bands=(1, 2))).tolist() == [[3, 4]]


def test_large_windows_are_asked_about_in_pieces(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "scene.tif", with_holes("uint8", 0), nodata=0)
    monkeypatch.setattr(scene_reader, "CHUNK_PIXELS", 77)
    np.testing.assert_array_equal(valid(path), oracle(path))


def test_blocks_that_a_sparse_file_lacks_are_invalid(tmp_path):
    path = tmp_path / "scene.tif"
    options = {"tiled": True, "blockxsize": 32, "blockysize": 16, "sparse_ok": True}
    write_raster(path, np.zeros((1, 100, 100), np.uint8), **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(noise((1, 16, 32)), window=((32, 48), (32, 64)))
    scene = Scene.open(str(path))
    expected = np.zeros((100, 100), bool)
    expected[32:48, 32:64] = True
    np.testing.assert_array_equal(valid(path), expected)
    with scene.reader() as reader:
        assert reader.has_data(Window(47, 63, 1, 1))
        assert not reader.has_data(Window(48, 63, 40, 30))
        assert not reader.has_data(Window(0, 0, 32, 100))
        assert not reader.has_data(Window(100, 100, 5, 5))
        np.testing.assert_array_equal(reader.valid(Window(40, 20, 20, 50)), expected[40:60, 20:70])
