import numpy as np
from hypothesis import given
from scipy import ndimage
from support.coverages import maps

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
