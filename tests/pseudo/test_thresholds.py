"""Balanced thresholds against sorting every candidate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.pseudo.candidates import GRID
from co2s_cli.pseudo.cut import add_levels, balanced_thresholds, no_levels

steps = st.lists(st.integers(0, GRID), max_size=60)


def counted(*parts):
    """Levels of two classes, from lists of steps; given in two pieces, with unlabelled and invalid pixels between."""
    levels = no_levels(2)
    for label, part in enumerate(parts):
        for piece in (part[::2], part[1::2]):
            labels = np.array([label] * len(piece) + [255, 255], np.uint8)
            sure = np.array([step / GRID for step in piece] + [1.0, np.nan], np.float32)
            add_levels(levels, labels, sure)
    return levels


@given(steps, steps, st.floats(0.01, 1))
def test_a_threshold_keeps_the_surest_share_of_its_class_and_no_more_than_equals(one, other, share):
    found = balanced_thresholds(counted(one, other), share)
    for part, threshold in zip((one, other), found, strict=True):
        if not part:
            assert threshold == 1
            continue
        wanted = math.ceil(share * len(part))
        assert threshold == sorted(part, reverse=True)[wanted - 1] / GRID
        assert sum(step / GRID >= threshold for step in part) >= wanted
        assert sum(step / GRID > threshold for step in part) < wanted


def test_rare_and_unsure_classes_keep_the_same_share_as_frequent_and_sure_ones():
    frequent, rare = list(range(GRID - 5000, GRID)), list(range(GRID // 3, GRID // 3 + 50))
    found = balanced_thresholds(counted(frequent, rare), 0.2)
    kept = [
        sum(step / GRID >= threshold for step in part) for part, threshold in zip((frequent, rare), found, strict=True)
    ]
    assert kept == [1000, 10]
    assert found[1] < 0.5 < found[0]


def test_invalid_and_unlabelled_pixels_are_not_counted():
    assert counted([GRID, 5], []).sum() == 2


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_equally_sure_candidates_stay_together(share):
    assert balanced_thresholds(counted([7] * 9, []), share)[0] == 7 / GRID
