"""Large and small regions told strip by strip, against a flood fill of the whole raster."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.pseudo import specks
from co2s_cli.pseudo.specks import large_regions


def flooded(labels, least):
    """True where the 4-connected region of a pixel has `least` pixels or more."""
    found = np.zeros(labels.shape, bool)
    seen = np.zeros(labels.shape, bool)
    for start in np.ndindex(labels.shape):
        region, waiting = [], [start]
        while waiting:
            row, col = place = waiting.pop()
            inside = 0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]
            if inside and not seen[place] and labels[place] == labels[start]:
                seen[place] = True
                region.append(place)
                waiting += [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
        for place in region:
            found[place] = len(region) >= least
    return found


def streamed(labels, least, rows):
    strips = [labels[top : top + rows] for top in range(0, len(labels), rows)]
    given_back, masks = zip(*large_regions(len(strips), strips.__getitem__, least), strict=True)
    np.testing.assert_array_equal(np.concatenate(given_back), labels)
    return np.concatenate(masks)


@given(
    st.integers(0, 2**32),
    st.integers(1, 24),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 30),
    st.integers(1, 9),
)
def test_any_raster_cut_into_any_strips_and_sections(seed, height, width, classes, rows, least, section):
    labels = np.random.default_rng(seed).integers(0, classes + 1, (height, width)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(specks, "SECTION", section)
        np.testing.assert_array_equal(streamed(labels, least, rows), flooded(labels, least))


@pytest.mark.slow
def test_what_is_kept_of_many_strips_takes_the_memory_of_few():
    strips, columns = 1600, 500
    labels = np.random.default_rng(0).integers(0, 256, (strips, columns)).astype(np.uint8)
    tracemalloc.start()
    for _ in large_regions(strips, lambda index: labels[index : index + 1], 3):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    all_edges = strips * columns * 10  # bytes: hardly two pixels are one region
    assert peak < all_edges / 8


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 40])
def test_regions_that_meet_far_below_or_far_above_are_one(rows):
    comb = np.zeros((12, 9), np.uint8)
    comb[:, ::2] = 1
    comb[-1] = 1
    for labels in (comb, comb[::-1]):
        size = int((comb == 1).sum())
        assert streamed(labels, size, rows)[labels == 1].all()
        assert not streamed(labels, size + 1, rows)[labels == 1].any()


def test_a_spiral_over_many_strips_is_one_region():
    spiral = np.zeros((15, 15), np.uint8)
    row = col = 0
    spiral[0, 0] = 1
    for length, (down, across) in zip(
        (14, 14, 14, 12, 12, 10, 10, 8, 8, 6, 6, 4, 4), [(0, 1), (1, 0), (0, -1), (-1, 0)] * 4, strict=False
    ):
        for _ in range(length):
            row, col = row + down, col + across
            spiral[row, col] = 1
    size = int(spiral.sum())
    assert streamed(spiral, size, 2)[spiral == 1].all()
    assert not streamed(spiral, size + 1, 2)[spiral == 1].any()
