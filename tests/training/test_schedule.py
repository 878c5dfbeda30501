"""Schedules at the published points."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.config import distill
from co2s_cli.config.train import settings_of
from co2s_cli.training.schedule import one_cycle, poly, ramp, steps_per_epoch, unlabeled_weight


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


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [
        ("whdld", 4446, {24: 42_640, 16: 41_680, 8: 38_880, 4: 33_360}),
        ("loveda", 3771, {40: 73_600, 16: 70_720, 8: 66_000, 4: 56_640}),
        ("potsdam", 4924, {32: 95_440, 16: 92_400, 8: 86_240, 4: 73_920}),
        ("gid15", 2736, {8: 47_920, 4: 41_040}),
        ("mer", 851, {8: 28_050, 4: 24_000}),
        ("msl", 3141, {8: 55_040, 4: 47_120}),
    ],
)
def test_published_runs_have_their_published_length(name, images, steps):
    settings = settings_of(None, {"data": name, "root": "."}, [])
    unlabeled = {part: images - images // part for part in steps}
    assert {
        part: settings.epochs * steps_per_epoch(count, ranks=4, batch=settings.batch)
        for part, count in unlabeled.items()
    } == steps


@pytest.mark.parametrize(
    ("images", "each", "steps"), [(3283, 101, 6_060), (10_088, 312, 18_720), (12_045, 372, 22_320)]
)
def test_published_distillations_have_their_published_length(images, each, steps):
    """Potsdam, LoveDA and DeepGlobe with 1 % of the labels."""
    settings = distill.settings_of(None, {"teacher": "tiny-dino:none", "preset": "published"}, [])
    found = steps_per_epoch(images - images // 100, ranks=4, batch=settings.batch)
    assert (found, settings.epochs * found) == (each, steps)


@given(st.integers(1, 1000), st.integers(1, 10_000))
def test_the_published_rate_lags_by_one_step(step, total):
    step = min(step, total - 1)
    before = max(step - 1, 0)
    assert poly(step, total, lag=1) == pytest.approx((1 - before / total) ** 0.9)


@pytest.mark.parametrize("total", [10, 150, 301])
def test_one_cycle_is_that_of_torch(total):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=total, pct_start=0.3)
    for step in range(total):
        assert one_cycle(step, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        scheduler.step() if step < total - 1 else None


def test_unlabelled_pixels_come_to_count_after_the_start():
    assert unlabeled_weight(0, 100, start=0.0, over=0.0) == 1
    found = [unlabeled_weight(step, 100, start=0.3, over=0.1) for step in (0, 29, 30, 34, 39, 99)]
    assert found == pytest.approx([0, 0, 0.1, 0.5, 1, 1])


@pytest.mark.parametrize(("total", "first"), [(400, 120), (200, 60), (102, 60), (50, 30), (10, 6)])
def test_short_runs_wait_for_some_steps_and_never_for_all_of_them(total, first):
    """0.3 of the run, at least 60 steps, at most 0.6 of it."""
    counts = [unlabeled_weight(step, total, start=0.3, over=0.0, after=60) > 0 for step in range(total)]
    assert counts == [step >= first for step in range(total)]
