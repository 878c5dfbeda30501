"""Which places are chosen."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.suggestions.choice import MIN_DISTANCE, choose

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def drawn(shape, seed, free):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, shape).astype(float)  # many are equal
    scores[generator.random(shape) > free] = -np.inf
    return scores, generator.integers(0, 3, shape).astype(np.uint8)


@given(SHAPES, st.integers(0, 1000), st.floats(0, 1), st.integers(1, 30))
def test_as_many_free_places_as_wanted_apart_and_always_the_same(shape, seed, free, count):
    scores, class_ids = drawn(shape, seed, free)
    before = scores.copy()
    choice = choose(scores, class_ids, count)
    places = np.array(choice.places, int).reshape(-1, 2)
    assert len(places) == len(set(choice.places)) == min(count, np.isfinite(scores).sum())
    assert np.isfinite(scores[tuple(places.T)]).all()
    distances = np.abs(places[:, None] - places[None]).max(axis=2)[~np.eye(len(places), dtype=bool)]
    assert (distances >= choice.distance).all()
    assert choose(scores, class_ids, count) == choice
    np.testing.assert_array_equal(scores, before)
    if len(places) and choice.distance < MIN_DISTANCE:  # then no free place is left that is far enough from all
        near = np.abs(np.argwhere(np.isfinite(scores))[:, None] - places[None]).max(axis=2).min(axis=1)
        assert (near < MIN_DISTANCE).all()


def test_the_highest_score_comes_first():
    scores = np.random.default_rng(0).random((9, 9))
    choice = choose(scores, np.zeros((9, 9), np.uint8), 3)
    assert choice.places[0] == np.unravel_index(scores.argmax(), scores.shape)


def test_a_class_has_no_more_than_its_share_while_others_have_places():
    class_ids = np.zeros((20, 20), np.uint8)
    class_ids[:, 10:] = 1
    scores = 1 + (class_ids == 0) * np.random.default_rng(0).random((20, 20))
    chosen = [int(class_ids[place]) for place in choose(scores, class_ids, 10).places]
    assert chosen.count(0) == chosen.count(1) == 5


def test_a_class_gets_more_than_its_share_where_others_have_too_few():
    class_ids = np.zeros((20, 20), np.uint8)
    class_ids[0, 0] = 1
    assert len(choose(np.ones((20, 20)), class_ids, 10).places) == 10


def test_places_spread_over_the_scene():
    scores = np.ones((40, 40))
    scores[:8, :8] = 9  # all the best ones lie in a corner
    choice = choose(scores, np.zeros((40, 40), np.uint8), 4)
    assert choice.distance == 10
    assert sum(row < 8 and col < 8 for row, col in choice.places) == 1


def test_nothing_is_chosen_of_nothing():
    assert choose(np.full((3, 3), -np.inf), np.zeros((3, 3), np.uint8), 2).places == ()
