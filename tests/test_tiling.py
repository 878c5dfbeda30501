"""The plan, the units and the weights: arithmetic that everything else rests on."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.tiling import (
    MIN_WEIGHT,
    TilePlan,
    Window,
    blend_shares,
    blocks,
    bounding_window,
    chains,
    spans,
    starts,
    taper,
    worker_share,
)

lengths = st.integers(1, 200)
tiles = st.integers(1, 60)


@given(length=lengths, tile=tiles, data=st.data())
def test_tiles_cover_an_axis_and_keep_their_size_and_overlap(length, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    first = starts(length, tile, overlap)
    assert first[0] == 0
    assert first == sorted(set(first))
    assert all(later - earlier <= tile - overlap for earlier, later in itertools.pairwise(first))
    assert first[-1] + tile >= length
    assert length < tile or first[-1] + tile == length


@pytest.mark.parametrize("overlap", [-1, 4, 9])
def test_an_overlap_that_is_no_overlap_is_refused(overlap):
    with pytest.raises(ValueError, match="0 <= overlap < tile"):
        starts(10, 4, overlap)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-2, 3)])
def test_a_window_has_pixels(height, width):
    with pytest.raises(ValueError, match="a window has at least one pixel"):
        Window(0, 0, height, width)


def test_a_window_as_slices():
    window = Window(2, 3, 4, 5)
    assert window.slices == (slice(2, 6), slice(3, 8))


@given(height=lengths, width=lengths, tile=tiles, data=st.data())
def test_the_windows_that_meet_an_area_are_those_that_share_a_pixel_with_it(height, width, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    plan = TilePlan.of(height, width, tile=tile, overlap=overlap)
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    area = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    rows, cols = plan.overlapping(area)
    every = [(d, a) for d in range(len(plan.rows)) for a in range(len(plan.cols))]
    assert len(every) == len(plan)
    met = [(d, a) for d, a in every if _shares_a_pixel(plan.window(d, a), area)]
    assert [(d, a) for d in rows for a in cols] == met


def _shares_a_pixel(one, other):
    return max(one.row, other.row) < min(one.bottom, other.bottom) and max(one.col, other.col) < min(
        one.right, other.right
    )


@given(height=lengths, width=lengths, band=st.integers(1, 80), panel=st.integers(1, 80))
def test_units_cover_every_pixel_once(height, width, band, panel):
    seen = np.zeros((height, width), int)
    units = blocks(height, width, band=band, panel=panel)
    for unit in units:
        seen[unit.slices] += 1
    assert (seen == 1).all()
    columns = chains(units)
    assert len(columns) == len(spans(width, panel))
    assert [unit for chain in columns for unit in chain] == units
    assert all((bounding_window(chain).row, bounding_window(chain).bottom) == (0, height) for chain in columns)


def test_a_missing_unit_breaks_a_chain():
    units = blocks(40, 10, band=10, panel=10)
    assert [len(chain) for chain in chains(units[:1] + units[2:])] == [1, 2]
    assert chains([]) == []


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="step >= 1"):
        spans(3, 0)


@given(count=st.integers(0, 50), workers=st.integers(1, 9))
def test_shares_of_workers_are_everything_and_even(count, workers):
    parts = [worker_share(count, worker, workers) for worker in range(workers)]
    assert [index for part in parts for index in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(tile=tiles, data=st.data())
def test_a_taper_is_positive_symmetric_and_highest_inside(tile, data):
    weights = taper(tile, data.draw(st.integers(0, tile - 1)))
    assert weights.shape == (tile,)
    assert weights.min() >= MIN_WEIGHT
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights[::-1])
    assert (np.diff(weights[: (tile + 1) // 2]) >= 0).all()


def test_without_overlap_all_weights_are_equal():
    assert (taper(7, 0) == 1).all()


@given(length=lengths, tile=tiles, data=st.data())
def test_the_shares_of_a_pixel_add_up_to_one(length, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    first = starts(length, tile, overlap)
    parts = blend_shares(length, first, taper(tile, overlap))
    total = np.zeros(max(length, tile))
    for start, part in zip(first, parts, strict=True):
        assert (part > 0).all()
        total[start : start + tile] += part
    np.testing.assert_allclose(total, 1, rtol=1e-6)
