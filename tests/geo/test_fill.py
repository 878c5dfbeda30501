"""What stands in for pixels that are not there."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.geo.read.fill import fill_invalid, reflected


@given(length=st.integers(1, 9), before=st.integers(0, 40), after=st.integers(0, 40))
def test_reflection_is_numpys(length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    assert reflected(-before, length + after, length).tolist() == expected.tolist()


def nearest_by_hand(valid, row, col):
    """The column to take for one pixel: of the row itself, else of the nearest row that has a valid one."""
    rows = [r for r in range(len(valid)) if valid[r].any()]
    row = min(rows, key=lambda r: (abs(r - row), r))
    return row, min(np.flatnonzero(valid[row]), key=lambda c: (abs(c - col), c))


@given(height=st.integers(1, 7), width=st.integers(1, 7), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_an_invalid_pixel_gets_the_nearest_valid_one_of_its_row_or_of_the_nearest_row(height, width, share, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 255, (2, height, width)).astype(np.uint8)
    valid = rng.random((height, width)) < share
    filled = fill_invalid(pixels, valid)
    assert filled.dtype == pixels.dtype
    if not valid.any():
        assert not filled.any()
        return
    np.testing.assert_array_equal(filled[:, valid], pixels[:, valid])
    for row, col in np.argwhere(~valid):
        np.testing.assert_array_equal(filled[:, row, col], pixels[(slice(None), *nearest_by_hand(valid, row, col))])
