"""The reliability curve against scikit-learn's, and the error against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from co2s_cli.scoring.calibration import Reliability, levels

SCALE = 1 / 254


def drawn(seed, count=400):
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 255, count).astype(np.uint8)
    return stored, rng.random(count) < (stored * SCALE) ** 2


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_the_error_is_the_weighted_mean_over_bins(seed, bins):
    stored, right = drawn(seed)
    found = Reliability.of(levels(stored, right), SCALE, bins)
    wanted = 0.0
    for step, one in enumerate(found.bins):
        inside = stored.astype(int) * bins <= (step + 1) * 254
        inside &= (stored.astype(int) * bins > step * 254) | (step == 0)
        assert one.pixels == inside.sum()
        if inside.any():
            assert one.accuracy == pytest.approx(right[inside].mean())
            assert one.confidence == pytest.approx((stored[inside] * SCALE).mean())
            wanted += inside.mean() * abs(right[inside].mean() - (stored[inside] * SCALE).mean())
    assert found.ece == pytest.approx(wanted)
    assert found.pixels == len(stored)
    assert found.accuracy == pytest.approx(right.mean())


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_the_curve_is_that_of_scikit_learn(seed):
    stored, right = drawn(seed)
    found = [one for one in Reliability.of(levels(stored, right), SCALE, 7).bins if one.pixels]
    accuracy, confidence = calibration_curve(right, stored * SCALE, n_bins=7)
    np.testing.assert_allclose([one.accuracy for one in found], accuracy)
    np.testing.assert_allclose([one.confidence for one in found], confidence)


def test_parts_add_up():
    stored, right = drawn(3)
    parts = levels(stored[:100], right[:100]) + levels(stored[100:], right[100:])
    np.testing.assert_array_equal(parts, levels(stored, right))


def test_a_map_that_is_as_right_as_sure_has_no_error():
    stored = np.array([127] * 10, np.uint8)
    right = np.array([True] * 5 + [False] * 5)
    assert Reliability.of(levels(stored, right), SCALE, 15).ece == pytest.approx(0)


def test_nothing_has_no_error():
    empty = Reliability.of(levels(np.zeros(0, np.uint8), np.zeros(0, bool)), SCALE, 4)
    assert (empty.ece, empty.pixels, empty.accuracy) == (0, 0, 0)
