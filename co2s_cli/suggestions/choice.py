"""Choose places: those of the highest scores, spread over the scene and over the classes of the map. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

APART = 2
"""Steps of the lattice between two places, along rows or columns, unless there are too few places for that."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen."""

    places: tuple[tuple[int, int], ...]
    """Row and column on the lattice, in the order in which they were chosen: the first ones are a choice too."""
    apart: int
    """Steps of the lattice that two places are at least apart, along rows or columns."""


def choose(scores: NDArray[np.float64], class_ids: NDArray[np.uint8], count: int) -> Choice:
    """Up to `count` places, fewer only where no more are finite.

    Greedy: the highest score first, of equal ones the first by row and column. At first places are far apart, up to
    half the side of a square in which one of `count` would lie, and no class has more than its share, `count` by the
    number of classes. Where that gives too few the distance is halved, down to `APART`; then classes may have more
    than their share; then places may be neighbours.

    Args:
        scores: (rows, columns), -inf or NaN where no place may be.
        class_ids: (rows, columns) the class of each place.
        count: Places that are wanted.
    """
    allowed = np.isfinite(scores)
    count = min(count, int(allowed.sum()))
    if not count:
        return Choice((), APART)
    share = math.ceil(count / len(np.unique(class_ids[allowed])))
    apart = max(APART, int(math.sqrt(allowed.sum() / count) / 2))
    limits = [(step, share) for step in _halved(apart)] + [(APART, count), (1, count)]
    places: list[tuple[int, int]] = []
    for apart, most in limits:
        _extend(places, np.where(allowed, scores, -np.inf), class_ids, count=count, apart=apart, most=most)
        if len(places) == count:
            break
    return Choice(tuple(places), apart)


def _halved(apart: int) -> list[int]:
    """The distance, its half, and so on, down to `APART`."""
    return [apart] if apart <= APART else [apart, *_halved(max(APART, apart // 2))]


def _extend(
    places: list[tuple[int, int]],
    scores: NDArray[np.float64],
    class_ids: NDArray[np.uint8],
    *,
    count: int,
    apart: int,
    most: int,
) -> None:
    """Add places up to `count`, `apart` from all others, at most `most` of a class; `scores` is used up."""
    taken = np.zeros(256, np.int64)
    for place in places:
        _block(scores, place, apart)
        taken[class_ids[place]] += 1
    scores[(taken >= most)[class_ids]] = -np.inf
    while len(places) < count and np.isfinite(scores.max()):
        row, col = map(int, np.unravel_index(scores.argmax(), scores.shape))
        places.append((row, col))
        _block(scores, (row, col), apart)
        class_id = class_ids[row, col]
        taken[class_id] += 1
        if taken[class_id] >= most:
            scores[class_ids == class_id] = -np.inf


def _block(scores: NDArray[np.float64], place: tuple[int, int], apart: int) -> None:
    """Leave out what is nearer than `apart` steps."""
    row, col = place
    scores[max(0, row - apart + 1) : row + apart, max(0, col - apart + 1) : col + apart] = -np.inf
