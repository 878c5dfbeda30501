"""Figures of places, against plain means over pixels."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from support.rasters import write_raster

from co2s_cli.config.vectorize import Amount
from co2s_cli.errors import Co2sError
from co2s_cli.geo.grid import Grid
from co2s_cli.progress import SILENT
from co2s_cli.suggestions import lattice as lattices
from co2s_cli.suggestions.lattice import PlaceScores, score_places
from co2s_cli.suggestions.places import PlaceLattice

SIDE = 5


class Marked:
    """A mask that is held."""

    def __init__(self, mask):
        self.mask = mask

    def read(self, window):
        return self.mask[window.slices]


@pytest.mark.parametrize("block_pixels", [1, 40, 2**22])
def test_places_are_means_over_their_pixels(tmp_path, monkeypatch, block_pixels):
    monkeypatch.setattr(lattices, "_BLOCK_PIXELS", block_pixels)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (13, 22)).astype(np.uint8)
    labels[:2, 7] = 255
    fractions = {name: generator.integers(0, 255, (13, 22)).astype(np.uint8) for name in ("confidence", "disagreement")}
    rasters = {
        name: write_raster(tmp_path / f"{name}.tif", values[None], nodata=255)
        for name, values in {"class": labels, **fractions}.items()
    }
    marked = np.zeros((13, 22), bool)
    marked[9, 10] = True
    scores = score_places(rasters, PlaceLattice(SIDE, 2, 4), labelled=Marked(marked), progress=SILENT)
    for row in range(2):
        for col in range(4):
            part = slice(row * SIDE, (row + 1) * SIDE), slice(col * SIDE, (col + 1) * SIDE)
            assert scores.free[row, col] == ((labels[part] != 255).all() and not marked[part].any())
            assert scores.class_ids[row, col] == np.bincount(labels[part][labels[part] != 255]).argmax()
            assert scores.uncertainty[row, col] == pytest.approx(1 - fractions["confidence"][part].mean() / 254)
            assert scores.disagreement[row, col] == pytest.approx(fractions["disagreement"][part].mean() / 254)
    assert not scores.free[0, 1]
    assert not scores.free[1, 2]


def test_both_measures_count_alike_and_the_larger_one_is_the_reason():
    free = np.array([[True, True, True, False]])
    scores = PlaceScores(
        free, np.zeros((1, 4), np.uint8), np.array([[0.2, 0.4, 0.6, 9]]), np.array([[0.024, 0.006, 0, 9]])
    )
    rated, apart = scores.ratings()
    np.testing.assert_allclose(rated, [[2.4, 1, 1.5, -np.inf]])
    assert apart[0, :3].tolist() == [True, False, False]


def test_one_student_rates_by_uncertainty_alone():
    scores = PlaceScores(np.ones((1, 2), bool), np.zeros((1, 2), np.uint8), np.array([[0.1, 0.3]]), None)
    rated, apart = scores.ratings()
    np.testing.assert_allclose(rated, [[0.5, 1.5]])
    assert not apart.any()


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(Amount(3, "px"), "at least 4"), (Amount(101, "px"), "no place of 101 × 101"), (Amount(50, "m"), "no CRS")],
)
def test_sizes_that_fit_no_scene_are_refused(size, wanted):

    with pytest.raises(Co2sError, match=wanted):
        PlaceLattice.of(size, Grid(100, 200, Affine.identity()), "scene.tif")


def test_metres_become_pixels():

    grid = Grid(1000, 1000, Affine(10, 0, 500_000, 0, -10, 100_000), CRS.from_epsg(32632))
    assert PlaceLattice.of(Amount(320, "m"), grid, "scene.tif") == PlaceLattice(32, 31, 31)
