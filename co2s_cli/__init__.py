"""Land-cover maps from large imagery and very few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from co2s_cli.models.ensemble import Ensemble

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path, device: str = "cpu") -> Ensemble:
    """Read a model file; see `Ensemble` for what it can do."""
    from co2s_cli.models.weights import load as read  # torch loads in seconds: only when a model is wanted

    return read(path, device)
