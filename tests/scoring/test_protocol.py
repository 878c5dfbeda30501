"""What each protocol counts, on a map of four by four pixels and on random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from co2s_cli.classes import IGNORE
from co2s_cli.scoring.matrix import Scores, confusion
from co2s_cli.scoring.protocol import counted, scored, with_missing

CLUTTER = 2
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 0, 0]], np.uint8)
DRAWN = np.array([[0, 0, 1, 1], [0, 2, 1, 1], [0, 1, 1, 1], [2, 2, 0, 0]], np.uint8)
"""Inside the clutter one pixel is called 0 and one 1; outside of it one 0 is called clutter."""


def miou(truth, drawn, protocol, excluded=(CLUTTER,), classes=3):
    matrix = counted(confusion(truth, drawn, classes), protocol, excluded)
    return Scores.of(matrix, scored(matrix, protocol, excluded)).miou


def test_mask_and_dwl_differ_by_what_is_said_inside_the_excluded_truth():
    assert miou(TRUTH, DRAWN, "mask") == pytest.approx((5 / 6 + 6 / 6) / 2)
    assert miou(TRUTH, DRAWN, "dwl") == pytest.approx((5 / 7 + 6 / 7) / 2)
    assert miou(TRUTH, DRAWN, "plain", ()) == pytest.approx((5 / 7 + 6 / 7 + 2 / 5) / 3)


def test_mask_and_dwl_agree_where_nothing_else_is_said_inside_the_excluded_truth():
    drawn = np.where(TRUTH == CLUTTER, CLUTTER, DRAWN)
    assert miou(TRUTH, drawn, "mask") == miou(TRUTH, drawn, "dwl")


def test_mask_is_the_same_as_not_labelling_the_excluded_classes():
    matrix = counted(confusion(TRUTH, DRAWN, 3), "mask", [CLUTTER])
    bare = np.where(TRUTH == CLUTTER, IGNORE, TRUTH)
    np.testing.assert_array_equal(matrix, confusion(bare, DRAWN, 3))


def test_an_absent_class_is_zero_as_published_and_left_out_else():
    both = np.array([[0, 0], [1, 1]], np.uint8)
    assert miou(both, both, "published", (), classes=3) == pytest.approx(2 / 3)
    assert miou(both, both, "plain", (), classes=3) == 1
    drawn = np.array([[0, 2], [1, 1]], np.uint8)
    assert miou(both, drawn, "published", (), classes=3) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert miou(both, drawn, "plain", (), classes=3) == pytest.approx((1 / 2 + 1) / 2)


def test_the_published_protocol_masks_as_mask_does():
    assert miou(TRUTH, DRAWN, "published") == miou(TRUTH, DRAWN, "mask")
    assert miou(TRUTH, DRAWN, "published", classes=4) == pytest.approx((5 / 6 + 6 / 6 + 0) / 3)


@given(st.integers(0, 2**32 - 1))
def test_plain_is_scikit_learns_macro_average(seed):
    rng = np.random.default_rng(seed)
    truth, drawn = rng.choice(5, (2, 6, 5), p=[0.6, 0.3, 0.08, 0.01, 0.01]).astype(np.uint8)
    labels = np.unique(truth)  # a class that the map alone holds has no truth to be scored by
    wanted = jaccard_score(truth.ravel(), drawn.ravel(), average="macro", labels=labels)
    assert miou(truth, drawn, "plain", (), classes=5) == pytest.approx(wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["plain", "mask", "dwl", "published"]))
def test_the_order_of_the_classes_does_not_matter(seed, protocol):
    rng = np.random.default_rng(seed)
    truth, drawn = rng.choice([0, 1, 2, 3, IGNORE], (2, 8, 8)).astype(np.uint8)
    order = rng.permutation(4)
    table = np.append(order, [IGNORE] * 252).astype(np.uint8)
    excluded = () if protocol == "plain" else (2,)
    moved = [int(order[one]) for one in excluded]
    first = miou(truth, drawn, protocol, excluded, classes=4)
    assert miou(table[truth], table[drawn], protocol, moved, classes=4) == pytest.approx(first)


def test_pixels_without_a_class_can_count_as_wrong():
    matrix = np.array([[6, 0], [0, 4]])
    wide = with_missing(matrix, np.array([2, 0]))
    scores = Scores.of(wide, [0, 1])
    assert scores.accuracy == pytest.approx(10 / 12)
    assert scores.miou == pytest.approx((6 / 8 + 1) / 2)
