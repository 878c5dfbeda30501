"""Areas and accuracies of a map from a stratified random sample, with 95 % intervals (Olofsson et al. 2014).

Equations and their numbers are those of "Good practices for estimating area and assessing accuracy of land change",
Remote Sensing of Environment 148, 42-57. A stratum is the part of the map with one class; rows of a count matrix are
strata, columns are the classes that an interpreter saw at the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.96
"""Half the width of a 95 % interval in standard errors, rounded as in the paper."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and half the width of its 95 % interval."""

    value: float
    margin: float | None
    """None if a stratum has a single point, from which no variance can be estimated."""


@dataclass(frozen=True, slots=True)
class AreaEstimates:
    """Accuracies and area shares, by class. A margin is None if a stratum that it depends on has a single point."""

    accuracy: Interval
    """Overall accuracy."""
    shares: tuple[Interval, ...]
    """True share of each class in the mapped area."""
    users: tuple[Interval | None, ...]
    """User's accuracy: share of the area mapped as a class that has this class; None if the map does not have it."""
    producers: tuple[Interval | None, ...]
    """Producer's accuracy: share of a class's true area that is mapped as it; None if no point has the class."""


def estimate_areas(counts: NDArray[np.int64], mapped: Numbers) -> AreaEstimates:
    """Accuracies and area shares of the whole map, estimated from a stratified sample.

    Args:
        counts: (N, N) number of points by class on the map (row) and class that the interpreter saw (column).
        mapped: (N,) area of each class on the map, in any unit; 0 for a class that the map does not have.

    Raises:
        ValueError: a class on the map has no point.
    """
    points = counts.sum(axis=1)
    if (points[mapped > 0] == 0).any():
        raise ValueError("every class on the map needs sample points")
    weight = mapped / mapped.sum()
    within = counts / np.maximum(points, 1)[:, None]
    variance = _variances(within, points, mapped)
    true_share = weight @ within  # equation 4 summed over strata
    users = np.diag(within)
    producers, producers_variance = _producers(within, variance, weight, true_share)
    return AreaEstimates(
        accuracy=_interval(float(weight @ users), float(weight**2 @ np.diag(variance))),  # equations 1 and 5
        shares=tuple(map(_interval, true_share, weight**2 @ variance)),  # equations 9 and 10
        users=_intervals(mapped > 0, users, np.diag(variance)),  # equations 2 and 6
        producers=_intervals(true_share > 0, producers, producers_variance),  # equations 3 and 7
    )


def _variances(within: Numbers, points: NDArray[np.int64], mapped: Numbers) -> Numbers:
    """Variances (N, N) of the class shares `within` strata; NaN in a stratum of one point, 0 in one without area."""
    degrees = np.where(points > 1, points - 1.0, np.nan)
    return np.where((mapped > 0)[:, None], within * (1 - within) / degrees[:, None], 0.0)


def _producers(within: Numbers, variance: Numbers, weight: Numbers, true_share: Numbers) -> tuple[Numbers, Numbers]:
    """Producer's accuracies (N,) and their variances (N,) (equation 7)."""
    divisor = np.where(true_share > 0, true_share, 1.0)
    accuracy = weight * np.diag(within) / divisor
    scaled = weight[:, None] ** 2 * variance
    hits = np.diag(scaled)
    misses = scaled.sum(axis=0) - hits
    return accuracy, ((1 - accuracy) ** 2 * hits + accuracy**2 * misses) / divisor**2


def _interval(value: float, variance: float) -> Interval:
    margin = Z_95 * float(np.sqrt(variance))
    return Interval(float(value), None if np.isnan(margin) else margin)


def _intervals(defined: NDArray[np.bool_], values: Numbers, variances: Numbers) -> tuple[Interval | None, ...]:
    """An interval for each value; None where it is not defined."""
    triples = zip(defined, values, variances, strict=True)
    return tuple(_interval(value, variance) if is_defined else None for is_defined, value, variance in triples)
