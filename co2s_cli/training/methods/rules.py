"""What every method is told about the run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds, weights and switches; the defaults are what the papers intend."""

    threshold: Tensor
    """(N,) confidence from which a pseudo-label of a class counts."""
    steps: int
    """Steps of the whole run."""
    class_weights: Tensor | None = None
    """(N,) weights of the supervised loss."""
    stability_weight: float = 0.5
    """Weight of the stability loss after its ramp."""
    ramp_share: float = 0.2
    """Share of the run over which that weight rises."""
    stability_grad: bool = True
    """Whether the stability loss teaches; the published code detaches both sides."""
    stability_in_padding: bool = False
    """Whether padding counts in it; it does in the published code."""
