"""Put the elements of many linked lists in order at once: open lists and closed cycles, with no loop over elements.

Each round breaks the lists at the elements that are smaller than both their neighbours, finds the break before every
element by pointer doubling, and goes on with the breaks alone, of which there are at most half as many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def order(previous: Index, key: Index) -> tuple[Index, Index]:
    """The first element of the list of every element, and the steps from it.

    Args:
        previous: Element before each element; the element itself at the start of an open list.
        key: Distinct numbers >= 0; a cycle starts at its smallest.
    """
    opens = previous == np.arange(len(previous))
    return _order(previous, np.where(opens, -1, key), np.ones(len(previous), np.int64))


def spans(starts: Index, lengths: Index) -> Index:
    """The numbers start, start + 1, …, start + length - 1 of every pair, one pair after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths))


def offsets(lengths: Index) -> Index:
    """Where each of several consecutive stretches starts, and at last where they end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _order(previous: Index, key: Index, lengths: Index) -> tuple[Index, Index]:
    """`order` where `lengths` are the steps from the element before, and the start of an open list has key -1."""
    here = np.arange(len(previous))
    broken = _breaks(previous, key)
    first, steps = _walk_back(np.where(broken, here, previous), np.where(broken, 0, lengths))
    breaks = np.flatnonzero(broken)
    before = np.where(key[breaks] < 0, breaks, first[previous[breaks]])
    if np.array_equal(before, breaks):
        return first, steps
    number = np.empty(len(previous), np.int64)
    number[breaks] = here[: len(breaks)]
    outer, outer_steps = _order(number[before], key[breaks], steps[previous[breaks]] + lengths[breaks])
    mine = number[first]
    return breaks[outer[mine]], outer_steps[mine] + steps


def _breaks(previous: Index, key: Index) -> NDArray[np.bool_]:
    """True at the start of open lists, at elements alone in their cycle, and at those smaller than both neighbours."""
    follower = np.full(len(previous), np.iinfo(np.int64).max)
    follower[previous] = key
    alone = previous == np.arange(len(previous))
    return np.asarray(alone | ((key < key[previous]) & (key < follower)))


def _walk_back(pointer: Index, steps: Index) -> tuple[Index, Index]:
    """Where the pointers of each element end, and the sum of the steps on the way; pointers end at themselves."""
    ends = pointer == np.arange(len(pointer))
    active = np.flatnonzero(~ends[pointer])
    while len(active):
        over = pointer[active]
        steps[active] += steps[over]
        pointer[active] = pointer[over]
        active = active[~ends[pointer[active]]]
    return pointer, steps
