"""Choose places: those of the highest scores, spread over the scene and over the classes of the map. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_DISTANCE = 2
"""Least distance of two places along rows or columns, in steps of the lattice, unless too few places are that far."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen places."""

    places: tuple[tuple[int, int], ...]
    """Row and column on the lattice, in the order of choice, so that the first few are a useful choice too."""
    distance: int
    """Least distance between two places along rows or columns, in steps of the lattice."""


def choose(scores: NDArray[np.float64], class_ids: NDArray[np.uint8], count: int) -> Choice:
    """Choose up to `count` places; fewer only if fewer scores are finite.

    The choice is greedy: the highest score first, of equal scores the first by row and column. At first places must be
    far apart, half the side of a square that holds one of `count` places on average, and each class gets at most its
    share, `count` divided by the number of classes. If that gives too few places, the distance is halved, down to
    `MIN_DISTANCE`; then classes may exceed their share; then places may be neighbours.

    Args:
        scores: (rows, columns) score of each place; -inf or NaN where no place is allowed.
        class_ids: (rows, columns) class of each place.
        count: Number of places wanted.
    """
    allowed = np.isfinite(scores)
    count = min(count, int(allowed.sum()))
    if not count:
        return Choice((), MIN_DISTANCE)
    share = math.ceil(count / len(np.unique(class_ids[allowed])))
    distance = max(MIN_DISTANCE, int(math.sqrt(allowed.sum() / count) / 2))
    limits = [(step, share) for step in _halved(distance)] + [(MIN_DISTANCE, count), (1, count)]
    places: list[tuple[int, int]] = []
    for distance, class_limit in limits:
        _extend(
            places,
            np.where(allowed, scores, -np.inf),
            class_ids,
            count=count,
            distance=distance,
            class_limit=class_limit,
        )
        if len(places) == count:
            break
    return Choice(tuple(places), distance)


def _halved(distance: int) -> list[int]:
    """The distance, half of it, a quarter of it and so on, down to `MIN_DISTANCE`."""
    return [distance] if distance <= MIN_DISTANCE else [distance, *_halved(max(MIN_DISTANCE, distance // 2))]


def _extend(
    places: list[tuple[int, int]],
    scores: NDArray[np.float64],
    class_ids: NDArray[np.uint8],
    *,
    count: int,
    distance: int,
    class_limit: int,
) -> None:
    """Append places until there are `count`, each `distance` from all others, at most `class_limit` of each class.

    `scores` is changed: places that cannot be chosen any more are set to -inf.
    """
    taken = np.zeros(256, np.int64)
    for place in places:
        _block(scores, place, distance)
        taken[class_ids[place]] += 1
    scores[(taken >= class_limit)[class_ids]] = -np.inf
    while len(places) < count and np.isfinite(scores.max()):
        row, col = map(int, np.unravel_index(scores.argmax(), scores.shape))
        places.append((row, col))
        _block(scores, (row, col), distance)
        class_id = class_ids[row, col]
        taken[class_id] += 1
        if taken[class_id] >= class_limit:
            scores[class_ids == class_id] = -np.inf


def _block(scores: NDArray[np.float64], place: tuple[int, int], distance: int) -> None:
    """Set the scores of places nearer to `place` than `distance` steps to -inf."""
    row, col = place
    scores[max(0, row - distance + 1) : row + distance, max(0, col - distance + 1) : col + distance] = -np.inf
