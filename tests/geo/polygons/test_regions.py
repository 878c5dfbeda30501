"""Regions of rows of pixels, and counts of values in them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from support.coverages import maps

from co2s_cli.geo.polygons.regions import ValueCounts, find


@given(maps())
def test_regions_are_those_of_scipy_numbered_by_their_first_pixel(labels):
    found = find(labels.astype(np.uint16))
    image = found.label[found.run_of].reshape(labels.shape)
    expected = 0
    for value in np.unique(labels):
        parts, count = ndimage.label(labels == value)
        expected += count
        for part in range(1, count + 1):
            (number,) = np.unique(image[parts == part])
            assert found.values[number] == value
            assert found.starts[found.first[number]] == np.flatnonzero(parts == part)[0]
            assert found.bottom[number] == np.argwhere(parts == part)[:, 0].max()
    assert found.count == expected


PIXELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 255)), max_size=40)


def tally(pixels):
    return ValueCounts.of(*(np.array([pixel[place] for pixel in pixels], dtype=np.int64) for place in (0, 1)))


@given(PIXELS, st.sampled_from([0.1, 0.5, 1.0]))
def test_means_and_quantiles_are_those_of_the_pixels(pixels, share):
    some = tally(pixels)
    mean, quantile = some.mean(5), some.quantile(5, share)
    for region in range(5):
        values = [value for owner, value in pixels if owner == region]
        np.testing.assert_allclose(mean[region], np.mean(values) if values else np.nan)
        expected = np.quantile(values, share, method="inverted_cdf") if values else np.nan
        np.testing.assert_equal(quantile[region], float(expected))


@given(PIXELS, PIXELS, st.lists(st.integers(-1, 3), min_size=10, max_size=10))
def test_renumbered_counts_count_the_same_pixels(ours, theirs, names):
    number = np.array(names)
    both = tally(ours).plus(tally(theirs), shift=5).renumbered(number)
    renamed = [(number[owner], value) for owner, value in ours] + [
        (number[5 + owner], value) for owner, value in theirs
    ]
    expected = tally([pixel for pixel in renamed if pixel[0] >= 0])
    np.testing.assert_array_equal(both.pairs, expected.pairs)
    np.testing.assert_array_equal(both.counts, expected.counts)


def test_nothing_counted_is_no_number():
    assert np.isnan(ValueCounts.none().mean(2)).all()
