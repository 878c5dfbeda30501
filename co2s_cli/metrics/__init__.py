"""How right a map is: confusion matrix and its scores, borders, calibration. Plain numbers; reads nothing."""

from co2s_cli.metrics.matrix import Confusion, Scores, confusion

__all__ = ["Confusion", "Scores", "confusion"]
