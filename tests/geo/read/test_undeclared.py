"""Borders that a file does not declare as nodata: left out of statistics, and told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rasters import noise, write_raster

from co2s_cli.geo.read.picture import stretched
from co2s_cli.geo.read.scaling import band_statistics, training_scaling
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.undeclared import border_remark, undeclared_nodata, without_nodata


def scene(tmp_path, array, **options):
    return Scene.open(str(write_raster(tmp_path / "scene.tif", array, **options)))


def bordered(dtype, value):
    """Land of 60 × 80 pixels right of a border that is 40 pixels wide."""
    array = noise((3, 60, 120), dtype, low=40, high=90)
    array[:, :, :40] = value
    return array


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 255), ("uint8", 0), ("uint16", 0), ("int16", -9999), ("float32", -9999)]
)
def test_a_border_changes_neither_the_scaling_nor_the_statistics(tmp_path, dtype, value):
    array = bordered(dtype, value)
    declared = scene(tmp_path, array, nodata=value)
    scaling = training_scaling([declared], 0.5)
    expected = band_statistics([declared], scaling)
    plain = scene(tmp_path, array)
    assert training_scaling([plain], 0.5) == scaling
    np.testing.assert_allclose(band_statistics([plain], scaling), expected, atol=1e-6)


def test_a_picture_shows_the_land_as_without_the_border(tmp_path):
    array = bordered("uint8", 255)
    valid = np.ones(array.shape[1:], np.bool_)
    shown = stretched(scene(tmp_path, array), array, valid)[:, 40:]
    np.testing.assert_allclose(shown, stretched(scene(tmp_path, array), array[:, :, 40:], valid[:, 40:]))


@given(seed=st.integers(0, 999), fill=st.sampled_from([0, 255]), count=st.integers(0, 20))
def test_only_pixels_of_one_extreme_value_are_left_out(seed, fill, count):
    land = np.random.default_rng(seed).integers(1, 255, (3, 50))
    land[0, :2], land[1, :2] = (1, 254), (254, 1)  # the extremes of the land are in single bands
    border = np.full((3, count), fill)
    values = np.concatenate([land, border], axis=1)
    assert undeclared_nodata(values).tolist() == [False] * 50 + [True] * count
    assert (without_nodata(values) == land).all()


def test_one_band_and_a_scene_of_one_value_keep_all_pixels():
    assert without_nodata(np.array([[0, 0, 5, 9]])).shape == (1, 4)
    assert without_nodata(np.zeros((3, 7))).shape == (3, 7)
    assert without_nodata(np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("value", [0, 255])
def test_a_border_is_told_with_the_command_that_marks_it(tmp_path, value):
    remark = border_remark(scene(tmp_path, bordered("uint8", value)))
    assert f"33 % of its pixels, up to its border, are {value} in every band" in remark
    assert remark.endswith(f"rio edit-info --nodata {value} {tmp_path / 'scene.tif'}")


def test_what_is_declared_or_small_or_inside_or_everything_is_not_told(tmp_path):
    array = bordered("uint8", 255)
    assert border_remark(scene(tmp_path, array, nodata=255)) is None
    assert border_remark(scene(tmp_path, array[:1])) is None
    assert border_remark(scene(tmp_path, array[:, :, 38:])) is None  # 2 of 82 columns
    assert border_remark(scene(tmp_path, np.pad(array, ((0, 0), (3, 3), (3, 3)), constant_values=60))) is None
    assert border_remark(scene(tmp_path, np.full((3, 9, 9), 7, np.uint8))) is None
    inside = noise((3, 60, 120), low=40, high=90)
    inside[:, 10:50, 10:90] = 255
    assert border_remark(scene(tmp_path, inside)) is None
