"""Pictures of figures: confusion matrix and reliability curve, without the global state of pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from co2s_cli.files import atomic_file
from co2s_cli.scoring.calibration import Reliability
from co2s_cli.scoring.matrix import Confusion

_SHOWN = 40
"""Classes up to which each cell of a confusion matrix gets its number."""


def figure(count: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure of `width` × `height` inches and its axes, `count` beside each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # heavy: only where something is drawn
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(1, count, squeeze=False)[0]


def draw(made: Any, path: Path) -> None:
    """Write a figure as PNG."""
    with atomic_file(path) as temporary:
        made.savefig(temporary, dpi=110, metadata={"Software": None})


def draw_confusion(
    path: Path, matrix: Confusion, names: Sequence[str], *, title: str, columns: Sequence[str] | None = None
) -> None:
    """A confusion matrix as shares of each true class; `columns` names what is predicted where that is not `names`."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    columns = names if columns is None else columns
    side = 2 + 0.6 * min(len(names), _SHOWN)
    made, (axis,) = figure(1, side + 1, side)
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, values in enumerate(share if len(names) <= _SHOWN else ()):
        for col, value in enumerate(values):
            axis.text(col, row, f"{100 * value:.0f}", ha="center", va="center", color="w" if value > 0.6 else "k")
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    draw(made, path)


def draw_reliability(path: Path, found: Reliability) -> None:
    """How right the pixels of each confidence are, and how many there are."""
    made, (curve, amount) = figure(2, 9, 4.2)
    middle = [(one.low + one.high) / 2 for one in found.bins]
    width = 0.92 / len(found.bins)
    some = [one for one in found.bins if one.pixels]
    curve.bar(middle, [one.accuracy for one in found.bins], width, color="tab:blue", alpha=0.35, label="accuracy")
    curve.plot([one.confidence for one in some], [one.accuracy for one in some], ".-", color="tab:blue")
    curve.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="as right as sure")
    curve.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    curve.set_title(f"calibration error {100 * found.ece:.1f} %")
    curve.legend(loc="upper left", fontsize=8)
    amount.bar(middle, [one.pixels / max(found.pixels, 1) for one in found.bins], width, color="tab:blue", alpha=0.35)
    for value, style, label in ((found.confidence, "--", "mean confidence"), (found.accuracy, "-", "accuracy")):
        amount.axvline(value, linestyle=style, color="k", linewidth=1, label=label)
    amount.set(xlim=(0, 1), xlabel="confidence", ylabel="share of pixels")
    amount.set_title(f"{found.pixels:,} pixels")
    amount.legend(loc="upper left", fontsize=8)
    draw(made, path)
