import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.geo.polygons.chains import offsets, order, spans


@st.composite
def lists(draw):
    """Open lists and cycles: a permutation, opened at some elements."""
    previous = np.array(draw(st.permutations(range(draw(st.integers(0, 40))))), dtype=np.int64)
    opened = np.array([draw(st.integers(0, 5)) == 0 for _ in previous], dtype=bool)
    return np.where(opened, np.arange(len(previous)), previous), np.random.default_rng(0).permutation(len(previous))


def walked(previous, key, element):
    way = [element]
    while previous[way[-1]] not in (way[-1], element):
        way.append(previous[way[-1]])
    first = way[-1] if previous[way[-1]] == way[-1] else min(way, key=lambda one: key[one])
    return first, way.index(first)


@given(lists())
def test_every_element_finds_its_first_as_a_walk_does(case):
    previous, key = case
    first, steps = order(previous, key)
    for element in range(len(previous)):
        assert (first[element], steps[element]) == walked(previous, key, element)


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 6))))
def test_spans_are_ranges_put_together(pairs):
    starts, lengths = (np.array([pair[place] for pair in pairs], dtype=np.int64) for place in (0, 1))
    assert spans(starts, lengths).tolist() == [start + step for start, length in pairs for step in range(length)]
    assert offsets(lengths).tolist() == [sum(length for _, length in pairs[:count]) for count in range(len(pairs) + 1)]
