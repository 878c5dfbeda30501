"""Whether confidences match accuracies: reliability curve and expected calibration error, from exact counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Number of values that a stored confidence can have."""

Levels = NDArray[np.int64]
"""Counts (2, LEVELS) by stored confidence: of all pixels, and of those with the right class."""


def levels(stored: NDArray[np.uint8], right: NDArray[np.bool_]) -> Levels:
    """Counts of n pixels by stored confidence (n,) and whether their class is right (n,); counts of blocks add up."""
    return np.stack([np.bincount(values, minlength=LEVELS) for values in (stored, stored[right])]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Bin:
    """The pixels whose confidence lies in (low, high]; the first bin includes 0."""

    low: float
    high: float
    pixels: int
    confidence: float
    """Mean confidence of the pixels; 0 if there are none."""
    accuracy: float
    """Share of the pixels with the right class; 0 if there are none."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability curve of a map."""

    bins: tuple[Bin, ...]
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy over bins, weighted by their pixels."""
    confidence: float
    """Mean confidence of all pixels."""
    accuracy: float
    """Share of all pixels with the right class."""
    pixels: int

    @classmethod
    def of(cls, counts: Levels, scale: float, bins: int) -> Reliability:
        """The curve in `bins` equal bins of [0, 1]; a stored value times `scale` is the confidence."""
        values = np.arange(LEVELS) * scale
        # 1e-9: a value that exceeds a bin's upper end only by rounding belongs to that bin
        bin_index = np.clip(np.ceil(values * bins - 1e-9).astype(np.int64) - 1, 0, bins - 1)
        pixels, right, confidence = (np.bincount(bin_index, weights, bins) for weights in (*counts, counts[0] * values))
        divisor = np.maximum(pixels, 1)
        means = zip(pixels.tolist(), (confidence / divisor).tolist(), (right / divisor).tolist(), strict=True)
        total = max(int(counts[0].sum()), 1)
        return cls(
            bins=tuple(Bin(step / bins, (step + 1) / bins, int(n), c, a) for step, (n, c, a) in enumerate(means)),
            ece=float(np.abs(right - confidence).sum() / total),
            confidence=float(confidence.sum() / total),
            accuracy=float(right.sum() / total),
            pixels=int(counts[0].sum()),
        )
