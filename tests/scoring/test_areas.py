"""The estimator of Olofsson et al. (2014): the paper's worked example, and what sampling again and again gives."""

import numpy as np
import pytest

from co2s_cli.scoring.areas import estimate_areas

PAPER = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 1.0
HECTARES = PIXELS * 900 / 10_000


def test_the_worked_example_of_the_paper():
    found = estimate_areas(PAPER, HECTARES)
    areas = [(round(one.value * HECTARES.sum()), round(one.margin * HECTARES.sum())) for one in found.shares]
    assert areas == [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
    assert (round(found.accuracy.value, 2), round(found.accuracy.margin, 2)) == (0.95, 0.02)
    users = [(round(one.value, 2), round(one.margin, 2)) for one in found.users]
    assert users == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    producers = [(round(one.value, 2), round(one.margin, 2)) for one in found.producers]
    assert producers == [(0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02)]


def test_the_unit_of_the_areas_does_not_matter():
    for a, b in zip(estimate_areas(PAPER, PIXELS).shares, estimate_areas(PAPER, HECTARES).shares, strict=True):
        assert (a.value, a.margin) == pytest.approx((b.value, b.margin))


def test_producers_variance_is_equation_7_written_as_loops():
    found, n = estimate_areas(PAPER, HECTARES), PAPER.sum(axis=1)
    for j in range(4):
        total = sum(PIXELS[i] / n[i] * PAPER[i, j] for i in range(4))
        accuracy = PIXELS[j] * PAPER[j, j] / n[j] / total
        user = PAPER[j, j] / n[j]
        hits = PIXELS[j] ** 2 * (1 - accuracy) ** 2 * user * (1 - user) / (n[j] - 1)
        shares = {i: PAPER[i, j] / n[i] for i in range(4) if i != j}
        misses = sum(PIXELS[i] ** 2 * share * (1 - share) / (n[i] - 1) for i, share in shares.items())
        assert found.producers[j].value == pytest.approx(accuracy)
        assert found.producers[j].margin == pytest.approx(1.96 * np.sqrt(hits + accuracy**2 * misses) / total)


def test_intervals_hold_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    chance = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.05, 0.05, 0.9]])  # of the true class, in each stratum
    mapped = np.array([0.1, 0.3, 0.6])
    truth = mapped @ chance
    producers = mapped * np.diag(chance) / truth
    inside = []
    for _ in range(400):
        counts = np.stack([rng.multinomial(100, row) for row in chance])
        found = estimate_areas(counts, mapped)
        inside.append(
            [abs(one.value - true) <= one.margin for one, true in zip(found.shares, truth, strict=True)]
            + [abs(one.value - true) <= one.margin for one, true in zip(found.producers, producers, strict=True)]
        )
    assert np.abs(np.mean(inside, axis=0) - 0.95).max() < 0.05


def test_one_point_in_a_stratum_leaves_no_margin_but_the_estimates():
    found = estimate_areas(np.array([[1, 0], [1, 9]]), np.array([1.0, 9.0]))
    assert found.accuracy.value == pytest.approx(0.1 + 0.9 * 0.9)
    assert found.accuracy.margin is None
    assert found.users[0].margin is None
    assert found.users[1].margin > 0


def test_a_class_that_the_map_lacks_has_an_area_and_no_users_accuracy():
    found = estimate_areas(np.array([[8, 2], [0, 0]]), np.array([5.0, 0.0]))
    assert found.shares[1].value == pytest.approx(0.2)
    assert found.shares[1].margin > 0
    assert found.users[1] is None
    assert found.producers[1].value == 0


def test_a_class_that_nobody_saw_has_no_producers_accuracy():
    found = estimate_areas(np.array([[8, 0], [3, 0]]), np.array([5.0, 1.0]))
    assert found.producers[1] is None
    assert found.shares[1].value == 0


def test_a_class_on_the_map_without_points_is_refused():
    with pytest.raises(ValueError, match="needs sample points"):
        estimate_areas(np.array([[5, 0], [0, 0]]), np.array([5.0, 1.0]))
