"""Plots as PNG files: confusion matrix and reliability curve, without the global state of pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from co2s_cli.files import atomic_file
from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.matrix import Confusion

_SHOWN = 40
"""Largest number of classes for which the cells of a confusion matrix are labelled with their values."""


def figure(count: int, width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure of `width` × `height` inches, and its `count` axes side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import: only when something is drawn
    from matplotlib.figure import Figure

    image = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(image)
    return image, image.subplots(1, count, squeeze=False)[0]


def draw(image: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG."""
    with atomic_file(path) as temporary:
        image.savefig(temporary, dpi=110, metadata={"Software": None})


def draw_confusion(
    path: Path, matrix: Confusion, names: Sequence[str], *, title: str, columns: Sequence[str] | None = None
) -> None:
    """Draw a confusion matrix as shares of each true class; `columns`: names of predicted classes, else `names`."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    columns = names if columns is None else columns
    side = 2 + 0.6 * min(len(names), _SHOWN)
    image, (axis,) = figure(1, side + 1, side)
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, values in enumerate(share if len(names) <= _SHOWN else ()):
        for col, value in enumerate(values):
            axis.text(col, row, f"{100 * value:.0f}", ha="center", va="center", color="w" if value > 0.6 else "k")
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    draw(image, path)


def draw_reliability(path: Path, reliability: Reliability) -> None:
    """Draw accuracy against confidence, and the distribution of confidences."""
    image, (curve, amount) = figure(2, 9, 4.2)
    bins = reliability.bins
    middle = [(item.low + item.high) / 2 for item in bins]
    width = 0.92 / len(bins)
    filled = [item for item in bins if item.pixels]
    curve.bar(middle, [item.accuracy for item in bins], width, color="tab:blue", alpha=0.35, label="accuracy")
    curve.plot([item.confidence for item in filled], [item.accuracy for item in filled], ".-", color="tab:blue")
    curve.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="as right as sure")
    curve.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    curve.set_title(f"calibration error {100 * reliability.ece:.1f} %")
    curve.legend(loc="upper left", fontsize=8)
    pixels = max(reliability.pixels, 1)
    amount.bar(middle, [item.pixels / pixels for item in bins], width, color="tab:blue", alpha=0.35)
    means = ((reliability.confidence, "--", "mean confidence"), (reliability.accuracy, "-", "accuracy"))
    for value, style, label in means:
        amount.axvline(value, linestyle=style, color="k", linewidth=1, label=label)
    amount.set(xlim=(0, 1), xlabel="confidence", ylabel="share of pixels")
    amount.set_title(f"{reliability.pixels:,} pixels")
    amount.legend(loc="upper left", fontsize=8)
    draw(image, path)
