import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from support.coverages import maps

from co2s_cli.geo.polygons import sieving
from co2s_cli.geo.polygons.sieve import Limits


def sieved(labels, small, large=10**6, block=10**6, halo=1):
    """The sieved map, block by block, each looked at with as many rows as it takes."""
    height, parts = len(labels), []
    task = sieving.SieveTask("map", height, Limits(small, large), np.ones(height, np.int64), 10**9)
    for top in range(0, height, block):
        bottom, rows = min(top + block, height), halo
        while True:
            first, last = max(0, top - rows), min(height, bottom + rows)
            result, is_open = sieving._settled(task, labels[first:last].astype(np.uint16), first)
            if not is_open[top - first : bottom - first].any():
                break
            rows *= 2
        parts.append(result[top - first : bottom - first])
    return np.concatenate(parts)


def rows(*texts):
    return np.array([[255 if letter == "." else int(letter) for letter in text] for text in texts], np.uint8)


@given(maps(), st.sampled_from([1.5, 2, 3, 5, 10, 40]))
def test_no_small_region_with_a_neighbour_is_left_and_nodata_stays(labels, small):
    result = sieved(labels, small)
    np.testing.assert_array_equal(result == 255, labels == 255)
    for value in np.unique(result[result != 255]):
        parts, count = ndimage.label(result == value)
        for part in range(1, count + 1):
            around = result[ndimage.binary_dilation(parts == part) & (parts != part)]
            assert np.sum(parts == part) >= small or (around == 255).all()


@given(maps(), st.sampled_from([2, 5, 10]), st.sampled_from([40, 10**6]), st.integers(1, 5), st.integers(1, 3))
def test_blocks_give_what_the_whole_gives(labels, small, large, block, halo):
    np.testing.assert_array_equal(sieved(labels, small, large, block, halo), sieved(labels, small, large))


def test_a_small_region_joins_the_neighbour_with_the_longest_shared_edge():
    labels = rows("0000011", "0022211", "0000011")
    assert sieved(labels, 4).tolist() == rows("0000011", "0000011", "0000011").tolist()


def test_of_equal_edges_the_larger_neighbour_counts():
    assert sieved(rows("0021111"), 2).tolist() == rows("0011111").tolist()
    assert sieved(rows("1111200"), 2).tolist() == rows("1111100").tolist()


def test_a_region_in_nodata_stays():
    assert sieved(rows("..1..", "....."), 9).tolist() == rows("..1..", ".....").tolist()


def test_regions_as_large_as_the_limit_stay():
    labels = rows("0000", "0110", "0000")
    assert sieved(labels, 2).tolist() == labels.tolist()


def test_neighbours_of_one_class_count_together():
    labels = rows("11211", "11211", "11311", "44444", "44444", "44444")
    assert sieved(labels, 2)[2].tolist() == [1, 1, 1, 1, 1]
