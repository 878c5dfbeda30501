"""From which confidence on a candidate becomes a pseudo-label: given thresholds, or balanced ones by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.pseudo.candidates import GRID

Levels = NDArray[np.int64]
"""(classes, GRID + 1): how many candidates of a class are how sure, in steps of 1/GRID."""


def no_levels(classes: int) -> Levels:
    """Nothing counted yet."""
    return np.zeros((classes, GRID + 1), np.int64)


def count(levels: Levels, labels: NDArray[np.uint8], confidence: NDArray[np.float32]) -> None:
    """Add candidates (rows, columns) and their confidences, which are NaN where nothing is valid."""
    known = (labels != IGNORE) & ~np.isnan(confidence)
    found, steps = labels[known], np.rint(confidence[known] * GRID).astype(np.int64)
    for label in np.unique(found):
        levels[label] += np.bincount(steps[found == label], minlength=GRID + 1)


def balanced(levels: Levels, share: float) -> NDArray[np.float64]:
    """The highest threshold of each class (classes,) that keeps at least `share` of its candidates; 1 for none at all.

    More than the share is kept only where many are equally sure, to 1/GRID.
    """
    wanted = np.ceil(levels.sum(axis=1) * share)
    reached = np.cumsum(levels[:, ::-1], axis=1) >= np.maximum(wanted, 1)[:, None]
    return np.where(reached.any(axis=1), (GRID - reached.argmax(axis=1)) / GRID, 1.0)
