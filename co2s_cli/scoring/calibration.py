"""Whether a map is right as often as it says: reliability curve and expected calibration error, from exact counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Values that a stored confidence can have."""

Levels = NDArray[np.int64]
"""(2, LEVELS): pixels of each stored confidence, and those of them that are right."""


def levels(stored: NDArray[np.uint8], right: NDArray[np.bool_]) -> Levels:
    """Counts of pixels (n) by their stored confidence; counts of parts add up."""
    return np.stack([np.bincount(part, minlength=LEVELS) for part in (stored, stored[right])]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Bin:
    """The pixels whose confidence lies in (low, high]; the first bin holds 0 as well."""

    low: float
    high: float
    pixels: int
    confidence: float
    """Their mean confidence; 0 where there is none."""
    accuracy: float
    """The share of them that is right; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability curve of a map."""

    bins: tuple[Bin, ...]
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy over bins, weighted by their pixels."""
    confidence: float
    """Mean over all pixels."""
    accuracy: float
    """Share of all pixels that is right."""
    pixels: int

    @classmethod
    def of(cls, counts: Levels, scale: float, bins: int) -> Reliability:
        """The curve in `bins` equal steps of 0 … 1; a stored value times `scale` is the confidence."""
        values = np.arange(LEVELS) * scale
        # a value that is a bin's upper end but for its last digit belongs to that bin
        place = np.clip(np.ceil(values * bins - 1e-9).astype(np.int64) - 1, 0, bins - 1)
        pixels, right, sure = (np.bincount(place, part, bins) for part in (*counts, counts[0] * values))
        some = np.maximum(pixels, 1)
        found = zip(pixels.tolist(), (sure / some).tolist(), (right / some).tolist(), strict=True)
        total = max(int(counts[0].sum()), 1)
        return cls(
            bins=tuple(Bin(step / bins, (step + 1) / bins, int(n), c, a) for step, (n, c, a) in enumerate(found)),
            ece=float(np.abs(right - sure).sum() / total),
            confidence=float(sure.sum() / total),
            accuracy=float(right.sum() / total),
            pixels=int(counts[0].sum()),
        )
