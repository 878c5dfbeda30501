"""Materials keep the order in every band that real ones have."""

import numpy as np
import pytest

from co2s_cli.data.landscape.look import look
from co2s_cli.data.landscape.palette import BANDS, TINTS, Material
from co2s_cli.data.landscape.spectrum import SPECTRUM, spectrum


def full(seed):
    return spectrum(look(seed).colors, np.random.default_rng(seed))


def band(values, name, material):
    return values[material, :, SPECTRUM.index(name)].mean()


def test_the_four_bands_of_the_palette_are_kept():
    values = full(1)
    assert values.shape == (len(Material), TINTS, len(SPECTRUM))
    for name in BANDS:
        np.testing.assert_array_equal(values[..., SPECTRUM.index(name)], look(1).colors[..., BANDS.index(name)])


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_water_is_dark_and_soil_bright_in_the_short_wave_infrared(seed):
    values = full(seed)
    for name in ("swir1", "swir2"):
        assert band(values, name, Material.LAKE) < 0.02 < band(values, name, Material.CROWN)
        assert band(values, name, Material.CROWN) < band(values, name, Material.PLOUGHED)
    assert band(values, "thermal", Material.LAKE) < band(values, "thermal", Material.CROWN)
    assert band(values, "thermal", Material.CROWN) < band(values, "thermal", Material.ASPHALT)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_red_edge_of_leaves_lies_between_red_and_near_infrared(seed):
    values = full(seed)
    red, edge, nir = (band(values, name, Material.CROP_GREEN) for name in ("red", "rededge", "nir"))
    assert red < edge < nir
