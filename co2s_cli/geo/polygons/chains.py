"""Order the elements of many linked lists at once, open lists and closed cycles, without a Python loop over elements.

Each round breaks the lists at the elements whose key is smaller than those of both neighbours, finds the break before
every element by pointer doubling, and repeats on the list of breaks, which is at most half as long.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def order(previous: Index, key: Index) -> tuple[Index, Index]:
    """For every element the first element of its list, and the number of steps from that one to it.

    Args:
        previous: (elements) index of the element before each one; its own index at the start of an open list.
        key: (elements) distinct numbers >= 0; a cycle starts at the element with the smallest key.
    """
    opens = previous == np.arange(len(previous))
    return _order(previous, np.where(opens, -1, key), np.ones(len(previous), np.int64))


def spans(starts: Index, lengths: Index) -> Index:
    """Concatenated ranges: start, start + 1, …, start + length - 1 for every pair of start and length."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths))


def offsets(lengths: Index) -> Index:
    """(n + 1) start of each of n consecutive stretches of the given lengths, then the end of the last stretch."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _order(previous: Index, key: Index, lengths: Index) -> tuple[Index, Index]:
    """`order` for weighted links: `lengths` are the steps from the previous element; open lists start with key -1."""
    elements = np.arange(len(previous))
    is_break = _breaks(previous, key)
    first, steps = _walk_back(np.where(is_break, elements, previous), np.where(is_break, 0, lengths))
    breaks = np.flatnonzero(is_break)
    previous_break = np.where(key[breaks] < 0, breaks, first[previous[breaks]])
    if np.array_equal(previous_break, breaks):
        return first, steps
    number = np.empty(len(previous), np.int64)
    number[breaks] = elements[: len(breaks)]
    list_start, steps_to_break = _order(number[previous_break], key[breaks], steps[previous[breaks]] + lengths[breaks])
    break_of_element = number[first]
    return breaks[list_start[break_of_element]], steps_to_break[break_of_element] + steps


def _breaks(previous: Index, key: Index) -> NDArray[np.bool_]:
    """(elements) True at starts of open lists, in cycles of one element, and where both neighbours' keys are larger."""
    next_key = np.full(len(previous), np.iinfo(np.int64).max)
    next_key[previous] = key
    points_to_itself = previous == np.arange(len(previous))
    return np.asarray(points_to_itself | ((key < key[previous]) & (key < next_key)))


def _walk_back(pointer: Index, steps: Index) -> tuple[Index, Index]:
    """Follow the pointers of each element to one that points to itself: that end, and the sum of steps on the way."""
    is_end = pointer == np.arange(len(pointer))
    active = np.flatnonzero(~is_end[pointer])
    while len(active):
        target = pointer[active]
        steps[active] += steps[target]
        pointer[active] = pointer[target]
        active = active[~is_end[pointer[active]]]
    return pointer, steps
