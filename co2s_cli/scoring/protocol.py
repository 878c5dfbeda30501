"""Scoring protocols: which pixels count, and which classes the means are taken over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from co2s_cli.scoring.matrix import Confusion, labelled_classes

Protocol = Literal["plain", "mask", "dwl", "published"]
"""plain: means are over the classes that occur in the truth, as in the validation of a training run.

mask: as plain, without the pixels whose true class is excluded. dwl: pixels of excluded classes count as errors of the
class that the map has there; only the scores of the excluded classes are left out of the means. published: as the code
of the papers, without pixels of excluded classes (RS-MTDF; Co2S excludes none); means are over all other classes, where
a class that occurs nowhere scores 0.
"""

MASKING: frozenset[Protocol] = frozenset({"mask", "published"})
"""Protocols that leave out the pixels whose true class is excluded."""


def counted(matrix: Confusion, protocol: Protocol, excluded: Collection[int]) -> Confusion:
    """The matrix without the pixels that the protocol masks."""
    if protocol not in MASKING:
        return matrix
    counting = matrix.copy()
    counting[list(excluded)] = 0
    return counting


def scored(matrix: Confusion, protocol: Protocol, excluded: Collection[int]) -> list[int]:
    """Ids of the classes that the means are taken over; `matrix` is the result of `counted`."""
    if protocol == "published":
        return [class_id for class_id in range(len(matrix)) if class_id not in excluded]
    return [class_id for class_id in labelled_classes(matrix) if class_id not in excluded]


def with_missing(matrix: Confusion, missing: NDArray[np.int64]) -> Confusion:
    """The matrix (N + 1, N + 1) with a last column for pixels without a class on the map: `missing` (N,), all wrong."""
    extended = np.zeros((len(matrix) + 1, len(matrix) + 1), np.int64)
    extended[:-1, :-1] = matrix
    extended[:-1, -1] = missing
    return extended
