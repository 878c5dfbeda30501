import numpy as np
import pytest
from pyproj import Geod

from co2s_cli.geo.polygons.ellipsoid import Ellipsoid

WGS84 = Ellipsoid(6378137.0, 6356752.314245179)


def ring(lon, lat, width, height):
    return np.radians([lon, lon + width, lon + width, lon, lon]), np.radians(
        [lat, lat, lat + height, lat + height, lat]
    )


@pytest.mark.parametrize("lat", [-89.9, -45.0, -0.005, 0.0, 30.0, 60.0, 89.0])
def test_small_boxes_measure_what_geodesics_say(lat):
    lon_lat = ring(12.0, lat, 0.01, 0.01)
    area, length = Geod(ellps="WGS84").polygon_area_perimeter(*np.degrees(lon_lat))
    starts = np.array([0, 5])
    np.testing.assert_allclose(WGS84.areas(*lon_lat, starts), area, rtol=1e-6)
    np.testing.assert_allclose(WGS84.lengths(*lon_lat, starts), length, rtol=1e-6)


def test_the_whole_earth_has_its_surface():
    lon_lat = ring(-180.0, -90.0, 360.0, 180.0)
    np.testing.assert_allclose(WGS84.areas(*lon_lat, np.array([0, 5])), 510_065_621_724_088.4, rtol=1e-12)


def test_a_sphere_is_an_ellipsoid_too():
    lon_lat = ring(0.0, 0.0, 90.0, 90.0)
    np.testing.assert_allclose(Ellipsoid(1.0, 1.0).areas(*lon_lat, np.array([0, 5])), np.pi / 2)


def test_rings_are_measured_one_by_one_and_keep_the_sign_of_their_turn():
    one, other = ring(0.0, 10.0, 1.0, 1.0), ring(5.0, 40.0, 2.0, 1.0)
    lon, lat = (np.concatenate([one[place], other[place][::-1]]) for place in (0, 1))
    areas = WGS84.areas(lon, lat, np.array([0, 5, 10]))
    np.testing.assert_allclose(areas[0], WGS84.areas(*one, np.array([0, 5]))[0])
    np.testing.assert_allclose(areas[1], -WGS84.areas(*other, np.array([0, 5]))[0])


def test_parts_of_an_area_sum_up():
    whole = WGS84.areas(*ring(3.0, 50.0, 4.0, 4.0), np.array([0, 5]))[0]
    parts = [WGS84.areas(*ring(3.0 + x, 50.0 + y, 1.0, 1.0), np.array([0, 5]))[0] for x in range(4) for y in range(4)]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)
