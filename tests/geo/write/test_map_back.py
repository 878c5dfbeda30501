"""Back from the model's resolution."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rasters import noise

from co2s_cli.classes import IGNORE
from co2s_cli.geo.write import map_back as wayback
from co2s_cli.geo.write.map_back import MapResampler


@settings(max_examples=80)
@given(size=st.integers(1, 30), original=st.integers(1, 30), seed=st.integers(0, 9))
def test_the_way_back_takes_the_nearest_or_the_most_frequent(size, original, seed):
    lines = np.random.default_rng(seed).choice(np.array([0, 1, 2, IGNORE], np.uint8), (size, 2 * size))
    back = MapResampler(height=size, width=2 * size, original_height=original, original_width=2 * original)
    found = back.strip(lines, 0, 0, original)
    assert found.shape == (original, 2 * original)
    for row in range(original):
        for col in range(2 * original):
            assert found[row, col] == by_hand(lines, row, col, size / original)


def by_hand(lines, row, col, factor):
    if factor <= 1:
        return lines[int((row + 0.5) * factor + 1e-9), int((col + 0.5) * factor + 1e-9)]
    inside = [
        [m for m in range(count) if at - 1e-9 <= (m + 0.5) / factor < at + 1 - 1e-9]
        for at, count in ((row, lines.shape[0]), (col, lines.shape[1]))
    ]
    values = [v for v in lines[np.ix_(*inside)].ravel().tolist() if v != IGNORE]
    return max(sorted(set(values)), key=values.count) if values else IGNORE


@settings(max_examples=60)
@given(size=st.integers(1, 40), original=st.integers(1, 40), cuts=st.lists(st.integers(1, 39)), mean=st.booleans())
def test_strips_come_back_as_the_whole_does(size, original, cuts, mean):
    lines = noise((2, size, 5), high=255)
    back = MapResampler(height=size, width=5, original_height=original, original_width=7)
    bounds = sorted({0, size, *(cut for cut in cuts if cut < size)})
    strips = [(a, lines[:, a:b]) for a, b in itertools.pairwise(bounds)]
    found = list(back.stream(strips, mean=mean))
    assert [row for row, _ in found] == np.cumsum([0, *(a.shape[1] for _, a in found)])[:-1].tolist()
    whole = back.strip(lines, 0, 0, original, mean=mean)
    np.testing.assert_array_equal(np.concatenate([array for _, array in found], axis=1), whole)


def test_strips_of_a_scene_that_is_finer_by_far_stay_small(monkeypatch):
    monkeypatch.setattr(wayback, "CHUNK_PIXELS", 100)
    lines = noise((4, 3), high=9)
    back = MapResampler(height=4, width=3, original_height=40, original_width=30)
    found = list(back.stream([(0, lines)]))
    assert {array.size for _, array in found} <= {30, 60, 90}
    np.testing.assert_array_equal(np.concatenate([a for _, a in found]), lines.repeat(10, 0).repeat(10, 1))


def test_amounts_are_averaged_without_what_is_unknown():
    back = MapResampler(height=2, width=4, original_height=1, original_width=2)
    counts = np.array([[10, 20, IGNORE, IGNORE], [30, IGNORE, IGNORE, IGNORE]], np.uint8)
    assert back.strip(counts, 0, 0, 1, mean=True).tolist() == [[20, IGNORE]]
    shares = np.where(counts == IGNORE, np.nan, counts).astype(np.float32)
    np.testing.assert_array_equal(back.strip(shares, 0, 0, 1, mean=True), np.array([[20, np.nan]], np.float32))
