"""Learning rate, ramp and length of a run as functions of the step, counted from 0."""

from __future__ import annotations

import math


def poly(step: int, total: int, *, power: float = 0.9, lag: int = 0, warmup: int = 0) -> float:
    """Factor of the learning rate at `step` of `total`: linear warm-up, then (1 - step/total)^power.

    The published loop sets the rate after each step, so that it lags by one: steps 0 and 1 are both at the base.
    """
    if step < warmup:
        return (step + 1) / warmup
    return float((1 - max(step - lag, 0) / total) ** power)


def ramp(step: int, total: int, *, peak: float = 0.5, share: float = 0.2) -> float:
    """Weight of the stability loss: a half cosine from 0 to `peak` over the first `share` of the run, 0 outside it."""
    if not 0 <= step < total:
        return 0.0
    length = round(share * total)
    if step >= length:
        return peak
    if length == 1:
        return peak
    return peak * (1 - math.cos(math.pi * step / (length - 1))) / 2


def steps_per_epoch(images: int, *, ranks: int, batch: int) -> int:
    """Steps of one pass over `images` unlabelled images with `batch` images a rank: ⌊⌈images / ranks⌉ / batch⌋."""
    return max(1, -(-images // ranks) // batch)
