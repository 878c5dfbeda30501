"""Borders against a plain double loop, and pieces against the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from co2s_cli.classes import IGNORE
from co2s_cli.scoring.boundary import border_mask, borders, boundary_score, frame_width

WHOLE = (slice(None), slice(None))


def plain_edge(labels, known):
    height, width = labels.shape
    found = np.zeros(labels.shape, bool)
    for row, col in itertools.product(range(height), range(width)):
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            r, c = row + down, col + right
            if 0 <= r < height and 0 <= c < width and known[row, col] and known[r, c]:
                found[row, col] |= labels[row, col] != labels[r, c]
    return found


def plain_borders(truth, drawn, known, tolerance):
    counts = np.zeros((4, 256), np.int64)
    edges = [plain_edge(labels, known) for labels in (truth, drawn)]
    for class_id in np.unique([truth, drawn]):
        marks = [on & (labels == class_id) for labels, on in zip((truth, drawn), edges, strict=True)]
        for row, (mine, other) in zip((0, 2), (marks, marks[::-1]), strict=True):
            near = ndimage.distance_transform_edt(~other) <= tolerance if other.any() else np.zeros_like(mine)
            counts[row, class_id], counts[row + 1, class_id] = mine.sum(), (mine & near).sum()
    return counts


def maps(seed, shape, classes=5):
    """Two maps of smooth patches that nearly agree, and what is known."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, classes, (4, 5)), np.ones((6, 5), int))[: shape[0], : shape[1]].astype(np.uint8)
    drawn = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
    noisy = rng.random(truth.shape) < 0.05
    drawn[noisy] = rng.integers(0, classes, noisy.sum())
    return truth, drawn, rng.random(truth.shape) < 0.9


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 1.5, 2, 3, 4.3]))
def test_borders_are_those_of_a_double_loop(seed, tolerance):
    truth, drawn, known = maps(seed, (22, 25))
    np.testing.assert_array_equal(
        borders(truth, drawn, known, WHOLE, tolerance), plain_borders(truth, drawn, known, tolerance)
    )


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2.5, 3, 6]), st.integers(1, 11), st.integers(1, 13))
def test_pieces_with_a_frame_add_up_to_the_whole(seed, tolerance, high, wide):
    truth, drawn, known = maps(seed, (23, 25))
    frame, total = frame_width(tolerance), np.zeros((4, 256), np.int64)
    for row, col in itertools.product(range(0, truth.shape[0], high), range(0, truth.shape[1], wide)):
        top, left = max(0, row - frame), max(0, col - frame)
        part = (slice(top, row + high + frame), slice(left, col + wide + frame))
        core = (slice(row - top, row - top + high), slice(col - left, col - left + wide))
        total += borders(truth[part], drawn[part], known[part], core, tolerance)
    np.testing.assert_array_equal(total, borders(truth, drawn, known, WHOLE, tolerance))


def test_two_hundred_classes_are_counted_like_five():
    rng = np.random.default_rng(1)
    truth, drawn = rng.integers(0, 200, (2, 24, 30)).astype(np.uint8)
    known = np.ones(truth.shape, bool)
    np.testing.assert_array_equal(borders(truth, drawn, known, WHOLE, 2), plain_borders(truth, drawn, known, 2))


def test_a_shifted_edge_is_met_within_the_tolerance_and_missed_outside():
    truth, drawn = (np.repeat(np.arange(20) >= place, 8).reshape(20, 8).astype(np.uint8) for place in (10, 13))
    known = np.ones(truth.shape, bool)
    scores = {t: boundary_score(borders(truth, drawn, known, WHOLE, t), 1) for t in (2, 3)}
    assert (scores[2].f1, scores[3].f1) == (0, 1)
    assert (scores[3].true, scores[3].drawn) == (8, 8)


def test_the_rim_of_what_is_known_is_no_border():
    labels = np.full((6, 6), 3, np.uint8)
    labels[2:4] = IGNORE
    assert not border_mask(labels, labels != IGNORE).any()


def test_a_map_without_borders_scores_nothing():
    labels = np.ones((5, 5), np.uint8)
    counts = borders(labels, labels, labels == 1, WHOLE, 3)
    assert not counts.any()
    assert boundary_score(counts, 1).f1 == 0


def test_the_score_is_the_harmonic_mean():
    counts = np.zeros((4, 256), np.int64)
    counts[:, 7] = 10, 5, 8, 8
    score = boundary_score(counts, 7)
    assert (score.recall, score.precision) == (0.5, 1)
    assert score.f1 == pytest.approx(2 / 3)
