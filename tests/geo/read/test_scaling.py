"""Digital numbers to [0, 1]."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rasters import noise, write_raster

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scaling import Scaling, scaling_for, training_scaling
from co2s_cli.geo.read.scene import Scene


@dataclass(frozen=True)
class Model:
    dtype: str = "uint8"
    low: tuple[float, ...] = (0.0, 0.0)
    high: tuple[float, ...] = (255.0, 255.0)
    headroom: float = 0.0


def scene(tmp_path, array, **options):
    return Scene.open(str(write_raster(tmp_path / "scene.tif", array, **options)))


@given(low=st.floats(-1e4, 1e4), width=st.floats(1, 1e5), seed=st.integers(0, 99))
def test_a_range_becomes_zero_to_one_and_the_rest_is_cut_off(low, width, seed):
    pixels = np.random.default_rng(seed).uniform(low - width, low + 2 * width, (2, 4, 5))
    scaled = Scaling((low, 0), (low + width, 1)).apply(pixels)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(
        scaled[0], np.clip((pixels[0] - low) / width, 0, 1), atol=2e-3 if abs(low) > width else 1e-4
    )


def test_a_constant_band_is_in_the_middle():
    assert (Scaling((7.0,), (7.0,)).apply(np.full((1, 3, 3), 7, np.uint16)) == 0.5).all()


def test_the_models_ranges_are_for_its_own_sample_type(tmp_path):
    bytes_ = scene(tmp_path, noise((2, 9, 9)))
    assert scaling_for(bytes_, "model", Model(high=(200.0, 100.0))) == Scaling((0.0, 0.0), (200.0, 100.0))
    words = scene(tmp_path, noise((2, 9, 9), "uint16"))
    with pytest.raises(InputError, match=r"uint16.*uint8") as caught:
        scaling_for(words, "model", Model())
    assert "--scale auto" in caught.value.hint


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_percentiles_are_those_of_the_valid_pixels_of_the_whole_scene(tmp_path, dtype):
    array = noise((2, 300, 400), dtype, high=9000)
    array[:, :150] = -9999 if dtype != "uint16" else 0
    found = scaling_for(scene(tmp_path, array, nodata=array[0, 0, 0]), "p5-90", Model())
    expected = np.percentile(array[:, 150:].reshape(2, -1), (5, 90), axis=1)
    np.testing.assert_allclose([found.low, found.high], expected)
    assert scaling_for(scene(tmp_path, array, nodata=array[0, 0, 0]), "auto", Model()).low[0] < found.low[0]


def test_auto_knows_bytes_and_fractions(tmp_path):
    assert scaling_for(scene(tmp_path, noise((2, 9, 9))), "auto", Model()).high == (255.0, 255.0)
    fractions = np.random.default_rng(0).random((2, 9, 9), np.float32)
    assert scaling_for(scene(tmp_path, fractions), "auto", Model()) == Scaling((0.0, 0.0), (1.0, 1.0))


def test_one_valid_pixel_between_the_samples_is_found(tmp_path):
    array = np.zeros((1, 3000, 2), np.uint16)
    array[0, 2, 1] = 500
    assert scaling_for(scene(tmp_path, array, nodata=0), "auto", Model()) == Scaling((500.0,), (500.0,))


def test_a_range_and_none_are_taken_as_they_are(tmp_path):
    words = scene(tmp_path, noise((2, 9, 9), "uint16"))
    assert scaling_for(words, "100,3000", Model()) == Scaling((100.0, 100.0), (3000.0, 3000.0))
    with pytest.raises(InputError, match="uint16"):
        scaling_for(words, "none", Model())
    floats = np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32)
    scaling = scaling_for(scene(tmp_path, floats), "none", Model())
    np.testing.assert_array_equal(scaling.apply(floats), floats)


@pytest.mark.parametrize("choice", ["", "5", "9,1", "1,2,3", "p98-2", "p2-101", "nan,1", "max"])
def test_bad_choices_are_a_matter_of_usage(tmp_path, choice):
    with pytest.raises(ConfigError, match="--scale"):
        scaling_for(scene(tmp_path, noise((2, 9, 9))), choice, Model())


def test_headroom_widens_percentiles_on_both_sides_and_predict_widens_alike(tmp_path):
    pixels = np.arange(2 * 50 * 50, dtype=np.uint16).reshape(2, 50, 50)
    usual, wide = (training_scaling([scene(tmp_path, pixels)], room) for room in (0.0, 0.5))
    width = np.subtract(usual.high, usual.low)
    np.testing.assert_allclose(wide.low, usual.low - width / 2)
    np.testing.assert_allclose(wide.high, usual.high + width / 2)
    assert scaling_for(scene(tmp_path, pixels), "auto", Model(dtype="uint16", headroom=0.5)) == wide
    assert wide.apply(pixels).max() < 1  # the brightest pixels still differ
    assert np.unique(usual.apply(pixels)[0] == 1).size == 2


def test_bytes_need_no_headroom(tmp_path):
    assert training_scaling([scene(tmp_path, np.zeros((2, 4, 4), np.uint8))], 0.5).high == (255, 255)
