"""How long the steps of a run take: their sum one by one is the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.training.step_times import StepTimes

SCHEDULES = st.integers(1, 30).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(0, steps)))


@given(SCHEDULES, st.integers(1, 60), st.data())
def test_the_time_left_is_that_of_the_steps_left_at_the_speed_so_far(schedule, last, data):
    schedule_steps, light_steps = schedule
    times = StepTimes(schedule_steps, light_steps, light=0.5, full=2.0)
    first = data.draw(st.integers(0, last - 1))
    done = data.draw(st.integers(first + 1, last))

    def took(begin, end):
        return sum(0.5 if step % schedule_steps < light_steps else 2.0 for step in range(begin, end))

    assert times.seconds(last) == took(0, last)
    slower = 3 * took(first, done)  # than was measured
    assert times.left(first, done, last, slower) == pytest.approx(3 * took(done, last))


def test_steps_that_were_not_measured_take_the_same_time():
    assert StepTimes(100, 60).left(0, 10, 100, took=5.0) == 45.0
