"""Scores against hand-made matrices, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from co2s_cli.classes import IGNORE
from co2s_cli.scoring.matrix import Scores, confusion


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


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.7, 1.0]))
def test_scores_are_those_of_scikit_learn(seed, noise):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 3, IGNORE], (12, 9), p=[0.4, 0.3, 0.15, 0.05, 0.1]).astype(np.uint8)
    drawn = np.where(rng.random(truth.shape) < noise, rng.choice([0, 1, 2, 3, IGNORE], truth.shape), truth)
    known = (truth != IGNORE) & (drawn != IGNORE)
    pair, ids = (truth[known], drawn[known]), [0, 1, 2, 3]
    matrix = confusion(truth, drawn, 4)
    scores = Scores.of(matrix)
    np.testing.assert_array_equal(matrix, oracle.confusion_matrix(*pair, labels=ids))
    each = {"labels": ids, "average": None, "zero_division": 0}
    np.testing.assert_allclose(scores.iou, oracle.jaccard_score(*pair, **each))
    np.testing.assert_allclose(scores.precision, oracle.precision_score(*pair, **each))
    np.testing.assert_allclose(scores.recall, oracle.recall_score(*pair, **each))
    np.testing.assert_allclose(scores.f1, oracle.f1_score(*pair, **each))
    assert scores.accuracy == pytest.approx(oracle.accuracy_score(*pair))
    if len(set(pair[0]) | set(pair[1])) > 1:  # with one class alone scikit-learn divides by zero
        assert scores.kappa == pytest.approx(oracle.cohen_kappa_score(*pair))
    assert scores.miou == pytest.approx(np.mean(scores.iou))
    assert scores.mf1 == pytest.approx(np.mean(scores.f1))


def test_means_are_taken_over_the_classes_asked_for():
    matrix = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert Scores.of(matrix, [0, 1]).miou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert Scores.of(matrix, []).miou == 0
