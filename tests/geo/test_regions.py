import numpy as np
from hypothesis import given
from scipy import ndimage
from support.coverages import maps

from co2s_cli.geo.polygons.adjacency import edges
from co2s_cli.geo.polygons.regions import find


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


@given(maps(side=8))
def test_edges_are_counted_as_a_double_loop_counts_them(labels):
    found = find(labels.astype(np.uint16))
    image = found.label[found.run_of].reshape(labels.shape)
    expected = {}
    for one, other in ((image[1:], image[:-1]), (image[:, 1:], image[:, :-1])):
        for pair in zip(one.ravel(), other.ravel(), strict=True):
            if pair[0] != pair[1]:
                for both in (pair, pair[::-1]):
                    expected[both] = expected.get(both, 0) + 1
    shared = edges(found)
    assert dict(zip(zip(shared.one, shared.other, strict=True), shared.length, strict=True)) == expected
