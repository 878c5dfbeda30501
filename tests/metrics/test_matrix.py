"""Scores against hand-made matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.metrics import Scores, confusion


def test_a_hand_made_matrix():
    scores = Scores.of(np.array([[6, 2], [1, 3]]))
    assert scores.iou == pytest.approx((6 / 9, 3 / 6))
    assert scores.f1 == pytest.approx((12 / 15, 6 / 9))
    assert scores.miou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores.accuracy == pytest.approx(9 / 12)
    chance = (8 * 7 + 4 * 5) / 144
    assert scores.kappa == pytest.approx((0.75 - chance) / (1 - chance))


def test_a_class_that_is_nowhere_counts_as_zero():
    assert Scores.of(np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]])).miou == pytest.approx(2 / 3)


def test_an_empty_matrix_scores_zero():
    scores = Scores.of(np.zeros((3, 3), np.int64))
    assert (scores.miou, scores.accuracy, scores.kappa, scores.pixels) == (0, 0, 0, 0)


def test_scores_of_a_whole_set_are_not_the_mean_of_the_images_scores():
    one, two = np.array([[9, 1], [0, 0]]), np.array([[0, 0], [5, 5]])
    assert Scores.of(one + two).miou != pytest.approx((Scores.of(one).miou + Scores.of(two).miou) / 2)


@given(st.integers(0, 2**32 - 1))
def test_the_matrix_counts_as_a_double_loop_does(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.choice([0, 1, 2, IGNORE], (4, 5)).astype(np.uint8) for _ in range(2))
    expected = np.zeros((3, 3), np.int64)
    for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
        if IGNORE not in (t, p):
            expected[t, p] += 1
    np.testing.assert_array_equal(confusion(truth, predicted, 3), expected)
