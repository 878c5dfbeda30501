"""Confusion matrices, and the scores computed from one: IoU, precision, recall, F1, overall accuracy, kappa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE

Confusion = NDArray[np.int64]
"""(N, N): pixels by true class (row) and predicted class (column)."""


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Confusion:
    """The confusion matrix of two label maps of one shape; pixels that are `IGNORE` in either do not count."""
    counting = (truth != IGNORE) & (predicted != IGNORE)
    pairs = truth[counting].astype(np.int64) * classes + predicted[counting].astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def labelled_classes(matrix: Confusion) -> list[int]:
    """Ids of the classes that occur in the truth; others cannot be scored."""
    return np.flatnonzero(matrix.sum(axis=1)).tolist()


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores from a confusion matrix; shares in [0, 1]. A score with a divisor of 0 pixels is 0."""

    miou: float
    """Mean IoU over the classes that count."""
    mf1: float
    """Mean F1 over the classes that count."""
    iou: tuple[float, ...]
    """By class id, also of classes that do not count in the means."""
    precision: tuple[float, ...]
    """By class id, as `iou`."""
    recall: tuple[float, ...]
    """By class id, as `iou`."""
    f1: tuple[float, ...]
    """By class id, as `iou`."""
    accuracy: float
    """Overall accuracy: share of all pixels with the right class."""
    kappa: float
    """Cohen's kappa over all pixels."""
    pixels: int
    """Number of pixels in the matrix."""

    @classmethod
    def of(cls, matrix: Confusion, over: Sequence[int] | None = None) -> Scores:
        """The scores of a confusion matrix; all 0 if it is empty.

        `over`: ids of the classes that the means are taken over; None: all, absent ones included.
        """
        hits, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        total = int(matrix.sum())
        iou = hits / np.maximum(truth + predicted - hits, 1)
        f1 = 2 * hits / np.maximum(truth + predicted, 1)
        accuracy = float(hits.sum() / max(total, 1))
        chance = float((truth.astype(np.float64) * predicted).sum() / max(total, 1) ** 2)
        counting = list(range(len(matrix)) if over is None else over)
        return cls(
            miou=float(iou[counting].mean()) if counting else 0.0,
            mf1=float(f1[counting].mean()) if counting else 0.0,
            iou=tuple(iou.tolist()),
            precision=tuple((hits / np.maximum(predicted, 1)).tolist()),
            recall=tuple((hits / np.maximum(truth, 1)).tolist()),
            f1=tuple(f1.tolist()),
            accuracy=accuracy,
            kappa=(accuracy - chance) / (1 - chance) if total and chance < 1 else 0.0,
            pixels=total,
        )
