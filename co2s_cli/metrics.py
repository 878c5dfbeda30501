"""How right a map is: confusion matrix → IoU, F1, overall accuracy, kappa. Plain numbers; reads nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE

Confusion = NDArray[np.int64]
"""(N, N): pixels by true class (row) and predicted class (column)."""


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Confusion:
    """The confusion matrix of two label maps of one shape; pixels that either leaves at `IGNORE` do not count."""
    known = (truth != IGNORE) & (predicted != IGNORE)
    pairs = truth[known].astype(np.int64) * classes + predicted[known].astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a confusion matrix says; shares in [0, 1]. A class that neither map holds has IoU and F1 0."""

    miou: float
    """Mean over all classes, absent ones included."""
    iou: tuple[float, ...]
    f1: tuple[float, ...]
    accuracy: float
    kappa: float
    pixels: int

    @classmethod
    def of(cls, matrix: Confusion) -> Scores:
        """The scores of a confusion matrix; all zero where it is empty."""
        hits, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        total = int(matrix.sum())
        iou = hits / np.maximum(truth + predicted - hits, 1)
        f1 = 2 * hits / np.maximum(truth + predicted, 1)
        accuracy = float(hits.sum() / max(total, 1))
        chance = float((truth.astype(np.float64) * predicted).sum() / max(total, 1) ** 2)
        kappa = (accuracy - chance) / (1 - chance) if total and chance < 1 else 0.0
        return cls(float(iou.mean()), tuple(iou.tolist()), tuple(f1.tolist()), accuracy, kappa, total)
