"""A coarse pixel is the mean of what lies inside it, in every band and for every cover."""

import numpy as np
import pytest

from co2s_cli.data.landscape.coarse import COVERS, Region, means
from co2s_cli.data.landscape.palette import Material
from co2s_cli.data.landscape.sensor import MARGIN
from co2s_cli.data.landscape.spectrum import SPECTRUM
from co2s_cli.data.landscape.surface import Frame


@pytest.fixture(scope="module")
def region():
    return Region.of(5, Frame(300, 700, 128 + 2 * MARGIN))


def test_every_material_belongs_to_one_cover():
    members = [material for cover in COVERS.values() for material in cover]
    assert sorted(members) == sorted(Material)


def test_means_equal_a_loop_and_drop_what_fills_no_square():
    values = np.random.default_rng(0).random((10, 7), dtype=np.float32)
    expected = [[values[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean() for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(means(values, 3), expected, rtol=1e-6)


def test_coarse_pixels_are_means_of_fine_ones(region):
    fine, coarse = region.pixels(1), region.pixels(8)
    assert coarse.shape == (len(SPECTRUM), 16, 16)
    np.testing.assert_allclose(coarse, [means(values, 8) for values in fine], rtol=1e-5)


def test_shares_add_up_and_are_whole_at_the_finest_resolution(region):
    assert set(np.unique(region.shares(1))) <= {0.0, 1.0}
    np.testing.assert_allclose(region.shares(4).sum(axis=0), 1, rtol=1e-5)


def test_the_same_place_is_the_same_from_any_frame():
    near, wide = (Region.of(5, Frame(row, 0, size + 2 * MARGIN)) for row, size in ((64, 64), (0, 128)))
    np.testing.assert_array_equal(near.cover, wide.cover[64:128, :64])
    np.testing.assert_allclose(near.pixels(1), wide.pixels(1)[:, 64:128, :64], rtol=1e-4)
