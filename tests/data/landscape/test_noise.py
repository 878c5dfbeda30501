"""Noise is a function of place: single points, rows and grids agree, and textures join to themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2s_cli.data.landscape import noise

SPAN = st.floats(-5e4, 5e4)


@given(seed=st.integers(0, 2**32 - 1), keys=st.lists(st.integers(-(2**31), 2**31), min_size=1, max_size=4))
def test_uniform_values_lie_in_0_to_1_and_repeat(seed, keys):
    value = noise.chance(seed, *keys)
    assert 0 <= value < 1
    assert value == noise.chance(seed, *keys)


def test_hashes_of_neighbours_are_even_and_unrelated():
    values = noise.uniform(3, np.arange(300)[:, None], np.arange(300)[None])
    counts = np.histogram(values, 10, (0, 1))[0]
    assert abs(counts / values.size - 0.1).max() < 0.01
    assert abs(np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(values.ravel(), noise.uniform(4, *np.indices((300, 300))).ravel())[0, 1]) < 0.02


@settings(max_examples=40)
@given(y=SPAN, x=SPAN, spacing=st.floats(3, 900), seed=st.integers(0, 1000))
def test_a_grid_holds_the_values_and_slopes_of_its_points(y, x, spacing, seed):
    field = noise.Field(seed, spacing)
    rows, cols = y + np.arange(7.0) * 11, x + np.arange(5.0) * 13
    points_y, points_x = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    values, slopes = field.sloped(rows, cols)
    np.testing.assert_allclose(field.grid(rows, cols), values, atol=1e-4)
    np.testing.assert_allclose(values.ravel(), field.points(points_y, points_x), atol=1e-4)
    np.testing.assert_allclose(slopes.ravel(), field.sloped_points(points_y, points_x)[1], atol=1e-4)


def test_steepness_is_the_change_per_pixel():
    field, at = noise.Field(5, 40), np.arange(200.0)
    values, steep = field.sloped(at, at)
    down, across = np.gradient(values)
    np.testing.assert_allclose(steep[1:-1, 1:-1], np.hypot(down, across)[1:-1, 1:-1], atol=1e-3)


def test_a_field_has_mean_0_and_deviation_1():
    values = noise.Field(9, 10).grid(np.arange(2000.0), np.arange(2000.0))
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("texture", [noise.grain(), noise.canopy(512, 37)[0]], ids=["grain", "canopy"])
def test_textures_join_to_themselves_without_a_seam(texture):
    inside = np.abs(np.diff(texture, axis=0)).mean()
    seam = np.abs(texture[0] - texture[-1]).mean()
    assert seam < 1.5 * inside


@given(row=st.integers(-5000, 5000), col=st.integers(-5000, 5000))
def test_repetition_is_reading_modulo_the_period(row, col):
    texture = np.arange(42).reshape(6, 7)
    part = noise.repeated(texture, row, col, 9)
    assert part[4, 8] == texture[(row + 4) % 6, (col + 8) % 7]
    assert part.shape == (9, 9)
