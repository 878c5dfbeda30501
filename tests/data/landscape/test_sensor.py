"""Light and shadow fall as they must, and digital numbers say what they claim."""

import dataclasses

import numpy as np
import pytest

from co2s_cli.data.landscape import sensor
from co2s_cli.data.landscape.look import look

SOUTH_EAST = (np.sqrt(0.5), np.sqrt(0.5))


def at_sun(sun, slope):
    return dataclasses.replace(look(1), sun=sun, shadow_slope=slope)


@pytest.mark.parametrize(("sun", "away"), [((1.0, 0.0), (-1, 0)), ((0.0, -1.0), (0, 1)), (SOUTH_EAST, (-1, -1))])
@pytest.mark.parametrize("height", [6, 15])
def test_a_wall_casts_a_shadow_of_the_right_length_away_from_the_sun(sun, away, height):
    ground = np.zeros((121, 121), np.float32)
    ground[56:65, 56:65] = height
    dark = sensor.shadows(ground, at_sun(sun, 0.75))
    steps = np.arange(1, 50)
    ray = dark[60 + away[0] * (4 + steps), 60 + away[1] * (4 + steps)]
    length = ray.sum() * np.hypot(*away)
    assert length == pytest.approx(height / 0.75, abs=3.2)  # steps of whole pixels, on the diagonal of 1.4
    assert ray[: ray.sum()].all()  # in one piece, from the wall on
    assert not dark[60 - away[0] * 6, 60 - away[1] * 6]
    assert not dark[60, 60]


def test_flat_ground_has_brightness_1_and_slopes_towards_the_sun_more():
    ramp = np.repeat(np.arange(20, dtype=np.float32)[:, None] * 0.5, 20, axis=1)
    towards, away = (sensor.relief(ramp, at_sun((s, 0.0), 1.0))[10, 10] for s in (-1.0, 1.0))
    assert sensor.relief(np.zeros((9, 9), np.float32), look(1)) == pytest.approx(1)
    assert towards > 1  # the ground rises to the south, so that it faces a sun in the north
    assert towards - 1 == pytest.approx(1 - away)


def test_blur_keeps_the_mean_and_spreads_a_point():
    point = np.zeros((9, 9), np.float32)
    point[4, 4] = 1
    out = sensor.blurred(point, 0.2)
    assert out.sum() == pytest.approx(1)
    assert out[4, 4] == pytest.approx(0.36)
    assert out[3, 4] == pytest.approx(0.12)


def test_counts_are_reflectance_times_10000_and_never_nodata():
    reflectance = np.array([[-0.2, 0.0, 0.1234, 0.5, 9.0]], np.float32)
    assert sensor.counts(reflectance, "uint16").tolist() == [[1, 1, 1234, 5000, 65535]]
    eight = sensor.counts(reflectance, "uint8")
    assert eight.min() == 1
    assert eight.max() == 255
    assert (np.diff(eight.astype(int)) >= 0).all()
