"""How right a map is: confusion matrix and its scores, borders, calibration. Plain numbers; reads nothing."""

from co2s_cli.metrics.matrix import Confusion, Scores, confusion, labelled_classes

__all__ = ["Confusion", "Scores", "confusion", "labelled_classes"]
