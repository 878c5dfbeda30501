"""Areas and lengths of polygons on ellipsoids."""

import numpy as np
import pytest
from pyproj import Geod

from co2s_cli.geo.polygons.features import ellipsoid_measures

WGS84 = (6378137.0, 6356752.314245179)
ONE_RING = np.array([0, 5])


def ring(lon, lat, width, height):
    """A counter-clockwise box in radians, given in degrees."""
    corners = [(lon, lat), (lon + width, lat), (lon + width, lat + height), (lon, lat + height), (lon, lat)]
    return np.radians(corners)


@pytest.mark.parametrize("lat", [-89.9, -45.0, -0.005, 0.0, 30.0, 60.0, 89.0])
def test_small_boxes_measure_what_geodesics_say(lat):
    box = ring(12.0, lat, 0.01, 0.01)
    expected = Geod(ellps="WGS84").polygon_area_perimeter(*np.degrees(box.T))
    np.testing.assert_allclose(np.ravel(ellipsoid_measures(WGS84, box, ONE_RING)), expected, rtol=2e-6)


def test_the_whole_earth_has_its_surface():
    area, _ = ellipsoid_measures(WGS84, ring(-180.0, -90.0, 360.0, 180.0), ONE_RING)
    np.testing.assert_allclose(area, 510_065_621_724_088.4, rtol=1e-12)


def test_a_sphere_is_an_ellipsoid_too():
    area, _ = ellipsoid_measures((1.0, 1.0), ring(0.0, 0.0, 90.0, 90.0), ONE_RING)
    np.testing.assert_allclose(area, np.pi / 2)


def test_rings_are_measured_one_by_one_and_keep_the_sign_of_their_turn():
    first, second = ring(0.0, 10.0, 1.0, 1.0), ring(5.0, 40.0, 2.0, 1.0)
    areas, lengths = ellipsoid_measures(WGS84, np.concatenate([first, second[::-1]]), np.array([0, 5, 10]))
    alone = [ellipsoid_measures(WGS84, box, ONE_RING) for box in (first, second)]
    np.testing.assert_allclose(areas, [alone[0][0][0], -alone[1][0][0]])
    np.testing.assert_allclose(lengths, [alone[0][1][0], alone[1][1][0]])


def test_parts_of_an_area_sum_up():
    whole = ellipsoid_measures(WGS84, ring(3.0, 50.0, 4.0, 4.0), ONE_RING)[0]
    boxes = [ring(3.0 + x, 50.0 + y, 1.0, 1.0) for x in range(4) for y in range(4)]
    parts = ellipsoid_measures(WGS84, np.concatenate(boxes), np.arange(17) * 5)[0]
    np.testing.assert_allclose(parts.sum(), whole, rtol=1e-12)


def test_a_raster_from_0_to_360_degrees_is_not_torn_apart():
    area, length = ellipsoid_measures(WGS84, ring(179.0, 10.0, 2.0, 2.0), ONE_RING)
    west, west_length = ellipsoid_measures(WGS84, ring(0.0, 10.0, 2.0, 2.0), ONE_RING)
    np.testing.assert_allclose([area, length], [west, west_length], rtol=1e-9)
