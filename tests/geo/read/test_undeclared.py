"""Borders that a file does not declare as nodata: left out of statistics, and told."""

import re
import shlex
import warnings

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.rio.main import main_group
from support.rasters import noise, write_raster

from co2s_cli.geo.read.picture import stretched
from co2s_cli.geo.read.reader import Patch
from co2s_cli.geo.read.scaling import band_statistics, training_scaling
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.undeclared import border_remark, land_values


def scene(tmp_path, array, **options):
    return Scene.open(str(write_raster(tmp_path / "scene.tif", array, **options)))


def bordered(dtype="uint8", value=255):
    """Land of 60 × 80 pixels right of a border that is 40 pixels wide."""
    array = noise((3, 60, 120), dtype, low=40, high=90)
    array[:, :, :40] = value
    return array


def whole(pixels):
    return Patch(pixels, np.ones(pixels.shape[1:], np.bool_))


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
    array = bordered()
    shown = stretched(scene(tmp_path, array), whole(array))[:, 40:]
    np.testing.assert_allclose(shown, stretched(scene(tmp_path, array), whole(array[:, :, 40:])))


@given(seed=st.integers(0, 999), value=st.integers(-5, 300), corner=st.integers(0, 3), wide=st.integers(3, 30))
def test_what_is_like_a_corner_in_every_band_is_no_land(seed, value, corner, wide):
    pixels = np.random.default_rng(seed).integers(0, 255, (2, 20, 40)).astype(np.int16)
    pixels[1] += 1000  # no pixel of the land has the same value in both
    expected = pixels[:, :, wide:].reshape(2, -1)
    pixels[:, :, :wide] = value
    turned = np.ascontiguousarray(pixels[:, :: 1 - 2 * (corner // 2), :: 1 - 2 * (corner % 2)])
    assert sorted(map(tuple, land_values(whole(turned)).T)) == sorted(map(tuple, expected.T))


def test_two_borders_are_both_left_out_and_darker_land_does_not_hide_one():
    pixels = bordered("int16", 0)
    pixels[:, :, 100:] = 255
    pixels[0, 30, 60] = -3
    assert land_values(whole(pixels)).shape == (3, 60 * 60)


def test_one_band_and_a_scene_of_few_values_keep_all_pixels():
    assert land_values(whole(np.array([[[0, 0, 5, 9]]]))).shape == (1, 4)
    assert land_values(whole(np.zeros((3, 7, 1)))).shape == (3, 7)
    halves = np.zeros((3, 20, 20), np.uint16)
    halves[:, :, 10:] = 5000
    halves[:, 0, 5] = 100, 120, 130  # a single pixel is left, by which every band were constant
    assert land_values(whole(halves)).shape == (3, 400)


def test_a_corner_that_is_not_valid_or_small_says_nothing():
    pixels, patch = bordered(), whole(bordered())
    patch.valid[:, :40] = False
    assert land_values(patch).shape == (3, 60 * 80)
    pixels[:, 20, 80] = 255  # a roof on the land, which a border that is declared leaves alone
    assert land_values(Patch(pixels, patch.valid)).shape == (3, 60 * 80)
    assert land_values(whole(pixels[:, :, 38:])).shape == (3, 60 * 82)  # 2 of 82 columns


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0), ("uint8", 255), ("float32", -2147483648)])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_border_is_told_until_the_told_command_marks_it(tmp_path, dtype, value, turn):
    path = tmp_path / "my scene.tif"
    write_raster(path, bordered(dtype, value)[:, ::turn, ::turn])
    remark = border_remark(Scene.open(str(path)))
    assert f"33 % of its pixels, up to a corner, are {value} in every band" in remark
    command = shlex.split(re.search(r"mark them: rio (.*)$", remark).group(1))
    assert CliRunner().invoke(main_group, command).exit_code == 0
    assert border_remark(Scene.open(str(path))) is None


def test_a_file_with_a_nodata_value_can_have_no_other(tmp_path):
    array = bordered()
    array[:, :, 110:] = 0
    assert "give them the file's nodata value 0," in border_remark(scene(tmp_path, array, nodata=0))
    array[array == 255] = 0
    assert border_remark(scene(tmp_path, array, nodata=0)) is None


@pytest.mark.parametrize("by", ["alpha", "mask", "cog"])
def test_where_the_file_cannot_say_it_the_settings_do(tmp_path, by):
    array, options = bordered(), {}
    if by == "alpha":
        array = np.concatenate([array, np.full((1, 60, 120), 255, np.uint8)])
        array[3, :, 100:] = 0
        options["colors"] = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    if by == "mask":
        options["mask"] = np.pad(np.full((60, 100), 255, np.uint8), ((0, 0), (0, 20)))
    source = scene(tmp_path, array, **options)
    if by == "cog":
        with rasterio.open(source.source) as dataset, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            profile = {key: dataset.profile[key] for key in ("crs", "transform", "width", "height", "count", "dtype")}
            with rasterio.open(tmp_path / "cog.tif", "w", driver="COG", **profile) as made:
                made.write(dataset.read())
        source = Scene.open(str(tmp_path / "cog.tif"))
    remark = border_remark(source)
    assert remark.endswith("nodata: 255 for the image in data.yaml, and with --nodata 255 in co2s predict")
    assert border_remark(Scene.open(source.source, nodata=255)) is None


def test_what_is_declared_or_small_or_inside_or_everything_is_not_told(tmp_path):
    array = bordered()
    assert border_remark(scene(tmp_path, array, nodata=255)) is None
    assert border_remark(scene(tmp_path, array[:1])) is None
    assert border_remark(scene(tmp_path, array[:, :, 38:])) is None
    assert border_remark(scene(tmp_path, np.full((3, 9, 9), 7, np.uint8))) is None
    inside = noise((3, 60, 120), low=40, high=90)
    inside[:, 10:50, 10:90] = 255
    assert border_remark(scene(tmp_path, inside)) is None
