"""Schedules at the published points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.training.schedule import poly, ramp, steps_per_epoch


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0), (500, 0.0733), (1000, 0.2502), (1500, 0.4270), (1999, 0.5), (5000, 0.5), (9999, 0.5), (10000, 0), (-1, 0)],
)
def test_the_ramp_at_the_published_points(step, expected):
    assert ramp(step, 10_000) == pytest.approx(expected, abs=5e-5)


@given(st.integers(1, 3000))
def test_the_ramp_never_falls_and_ends_at_its_peak(total):
    values = [ramp(step, total) for step in range(total)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(0.5)


def test_the_learning_rate_at_the_published_points():
    total = 10_000
    factors = [poly(step, total, lag=1) for step in (0, 1, 1000, 5000, 9000, 9999)]
    assert factors[:2] == [1, 1]
    assert factors[2:5] == pytest.approx([0.9095, 0.5359, 0.1259], abs=2e-4)
    assert factors[5] > 0


def test_warm_up_is_linear():
    assert [poly(step, 100, warmup=4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_steps_of_an_epoch_as_published():
    assert steps_per_epoch(4446 - 185, ranks=4, batch=2) == 533
    assert 80 * 533 == 42_640
    assert steps_per_epoch(1, ranks=4, batch=2) == 1
