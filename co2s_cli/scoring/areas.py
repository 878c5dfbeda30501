"""Areas and accuracies of a map from a stratified random sample, with 95 % intervals (Olofsson et al. 2014).

Equations and numbers are those of "Good practices for estimating area and assessing accuracy of land change", Remote
Sensing of Environment 148, 42-57. A stratum is what the map calls one class; rows of a count matrix are strata, columns
are the classes that an interpreter saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.96
"""Half width of a 95 % interval in standard errors, as the paper rounds it."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and half the width of its 95 % interval."""

    value: float
    margin: float | None
    """None where a stratum has one point alone, of which no variance can be told."""


@dataclass(frozen=True, slots=True)
class AreaEstimates:
    """Estimates by class; NaN margins where a stratum that matters has one point alone."""

    accuracy: Interval
    """Overall accuracy."""
    shares: tuple[Interval, ...]
    """Share of the mapped ground that each class truly covers."""
    users: tuple[Interval | None, ...]
    """Share of what is mapped as a class that is right; None for a class that the map does not have."""
    producers: tuple[Interval | None, ...]
    """Share of a class that is mapped as such; None for a class of which no point was seen."""


def estimate_areas(counts: NDArray[np.int64], mapped: Numbers) -> AreaEstimates:
    """What a stratified sample says of the whole map.

    Args:
        counts: (N, N) points by class on the map (row) and class seen (column).
        mapped: (N) area of each class on the map, in any unit; a class that the map does not have is 0.

    Raises:
        ValueError: a class on the map has no point.
    """
    points = counts.sum(axis=1)
    if (points[mapped > 0] == 0).any():
        raise ValueError("every class on the map wants points")
    weight = mapped / mapped.sum()
    within = counts / np.maximum(points, 1)[:, None]
    variance = _variances(within, points, mapped)
    true_share = weight @ within  # equation 4 summed over strata
    users = np.diag(within)
    producers, producers_variance = _producers(within, variance, weight, true_share)
    return AreaEstimates(
        accuracy=_interval(float(weight @ users), float(weight**2 @ np.diag(variance))),  # equations 1 and 5
        shares=tuple(map(_interval, true_share, weight**2 @ variance)),  # equations 9 and 10
        users=_where(mapped > 0, users, np.diag(variance)),  # equations 2 and 6
        producers=_where(true_share > 0, producers, producers_variance),  # equations 3 and 7
    )


def _variances(within: Numbers, points: NDArray[np.int64], mapped: Numbers) -> Numbers:
    """(N, N) variance of each share of a stratum; NaN for a stratum of one point, 0 for one that the map has not."""
    degrees = np.where(points > 1, points - 1.0, np.nan)
    return np.where((mapped > 0)[:, None], within * (1 - within) / degrees[:, None], 0.0)


def _producers(within: Numbers, variance: Numbers, weight: Numbers, true_share: Numbers) -> tuple[Numbers, Numbers]:
    """Producer's accuracies and their variances (equation 7)."""
    some = np.where(true_share > 0, true_share, 1.0)
    accuracy = weight * np.diag(within) / some
    scaled = weight[:, None] ** 2 * variance
    hits = np.diag(scaled)
    misses = scaled.sum(axis=0) - hits
    return accuracy, ((1 - accuracy) ** 2 * hits + accuracy**2 * misses) / some**2


def _interval(value: float, variance: float) -> Interval:
    margin = Z_95 * float(np.sqrt(variance))
    return Interval(float(value), None if np.isnan(margin) else margin)


def _where(known: NDArray[np.bool_], values: Numbers, variances: Numbers) -> tuple[Interval | None, ...]:
    pairs = zip(known, values, variances, strict=True)
    return tuple(_interval(value, variance) if there else None for there, value, variance in pairs)
