"""The ways of scoring that are published: which pixels count, and which classes the means are taken over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from co2s_cli.scoring.matrix import Confusion, labelled_classes

Protocol = Literal["plain", "mask", "dwl", "published"]
"""plain: classes that the truth does not hold are left out of the means, as in the validation of a training.

mask: pixels of the excluded classes are left out entirely. dwl: they stay, so that what the map says there counts as
wrong for the class it says; only the excluded classes' own figures are left out. published: as the code of the papers
scores, without the pixels of the excluded classes (RS-MTDF; Co2S excludes none), all other classes in the means, one
that occurs nowhere as 0.
"""

MASKING: frozenset[Protocol] = frozenset({"mask", "published"})
"""Protocols that leave out the pixels whose true class is excluded."""


def counted(matrix: Confusion, protocol: Protocol, excluded: Collection[int]) -> Confusion:
    """The part of a matrix that counts, as the protocol masks pixels."""
    if protocol not in MASKING:
        return matrix
    kept = matrix.copy()
    kept[list(excluded)] = 0
    return kept


def scored(matrix: Confusion, protocol: Protocol, excluded: Collection[int]) -> list[int]:
    """Ids of the classes that the means are taken over, of a matrix that holds only what counts."""
    if protocol == "published":
        return [class_id for class_id in range(len(matrix)) if class_id not in excluded]
    return [value for value in labelled_classes(matrix) if value not in excluded]


def with_missing(matrix: Confusion, missing: NDArray[np.int64]) -> Confusion:
    """A matrix (N + 1, N + 1) in which pixels without a class on the map, by true class, are all wrong."""
    wide = np.zeros((len(matrix) + 1, len(matrix) + 1), np.int64)
    wide[:-1, :-1] = matrix
    wide[:-1, -1] = missing
    return wide
