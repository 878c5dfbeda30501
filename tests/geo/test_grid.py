"""Where pixels lie and how large they are on the ground."""

import numpy as np
import pytest
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.transform import Affine

from co2s_cli.geo.grid import Grid

GEOD = Geod(ellps="WGS84")


@pytest.mark.parametrize("lat", [0, 35, -61, 80])
@pytest.mark.parametrize("lon", [10, 179.9995])
def test_sizes_in_degrees_are_those_of_the_ellipsoid(lat, lon):
    grid = Grid(10, 10, Affine(1e-4, 0, lon, 0, -1e-4, lat), CRS.from_epsg(4326))
    lon, lat = grid.at(5, 5)
    width = GEOD.inv(lon, lat, lon + 1e-4, lat)[2]
    height = GEOD.inv(lon, lat - 5e-5, lon, lat + 5e-5)[2]
    assert grid.ground_size() == pytest.approx((width, height), rel=1e-4)


def test_pixel_areas_follow_the_latitude():
    grid = Grid(180, 360, Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326))
    earth = 510_065_621_724_088  # m², the WGS 84 ellipsoid
    assert grid.pixel_areas().sum() * 360 == pytest.approx(earth, rel=1e-3)


def test_scaling_keeps_the_corners_of_a_rotated_grid():
    transform = Affine.translation(5e5, 5e6) @ Affine.rotation(25) @ Affine.scale(3, -4)
    grid = Grid(30, 70, transform, CRS.from_epsg(32633))
    scaled = grid.scaled(11, 23)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert scaled.at(corner[0] * 23, corner[1] * 11) == pytest.approx(grid.at(corner[0] * 70, corner[1] * 30))
    assert np.array_equal(grid.at(np.array([3, 4]), 5)[0], [grid.at(3, 5)[0], grid.at(4, 5)[0]])


def test_feet_are_metres_on_the_ground_and_a_local_crs_tells_nothing():
    feet = Grid(10, 10, Affine(10, 0, 2e6, 0, -10, 7e5), CRS.from_epsg(2263))
    assert feet.ground_size() == pytest.approx((3.048, 3.048), rel=1e-3)
    local = CRS.from_wkt('LOCAL_CS["plan",UNIT["metre",1]]')
    assert Grid(10, 10, Affine(10, 0, 0, 0, -10, 0), local).ground_size() is None


def test_places_are_found_from_their_coordinates():
    grid = Grid(5, 7, Affine(10, 2, 500_000, 1, -10, 5_500_000))
    assert grid.pixel_of(*grid.at(3.25, 1.5)) == pytest.approx((3.25, 1.5))
