"""Records of a run while it trains: metrics.jsonl (reproducible numbers), timing.jsonl, TensorBoard; and warnings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from co2s_cli.classes import Color
from co2s_cli.errors import ModelError
from co2s_cli.files import check_readable, write_text
from co2s_cli.scoring.matrix import Confusion, labelled_classes
from co2s_cli.scoring.samples import SampleView
from co2s_cli.scoring.validation import FUSED, ValidationCounts
from co2s_cli.training.names import EMA, METRICS, TIMING

_GAP = 4
"""Width in pixels of the white gap between the pictures of a crop."""


class Records:
    """The open record files in a run folder; only rank 0 has them."""

    def __init__(self, folder: Path, *, done: int) -> None:
        """Append after step `done`; lines of later steps, which a killed run left after its last state, are removed."""
        for name in (METRICS, TIMING):
            _drop_later_lines(folder / name, done)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._timing = (folder / TIMING).open("a", encoding="utf-8")
        from torch.utils.tensorboard import SummaryWriter  # imports TensorBoard, which takes long: only when needed

        self._events: Any = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line of numbers to metrics.jsonl; a run with the same settings repeats them."""
        self._metrics.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._metrics.flush()
        self._draw(step, values)

    def add_timing(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line about speed and memory to timing.jsonl."""
        self._timing.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._timing.flush()
        self._draw(step, values)

    def add_views(self, step: int, views: Sequence[SampleView], colors: Sequence[Color]) -> None:
        """Add validation crops to TensorBoard: for each a picture with image, labels and predictions side by side."""
        for number, view in enumerate(views, 1):
            panels = view.panels(colors)
            gap = np.full((view.image.shape[0], _GAP, 3), 255, np.uint8)
            row = np.concatenate([part for panel in panels.values() for part in (panel, gap)][:-1], axis=1)
            self._events.add_image(f"crop {number}: {', '.join(panels)}", row, step, dataformats="HWC")

    def close(self) -> None:
        """Close all record files."""
        self._metrics.close()
        self._timing.close()
        self._events.close()

    def _draw(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


def read(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The lines of metrics.jsonl with losses of training steps, and those with figures of validations."""
    lines = lines_of(folder / METRICS)
    return [line for line in lines if "loss" in line], [line for line in lines if "loss" not in line]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a record file up to the first damaged one; empty where there is no such file."""
    return [json.loads(line) for _, line in _whole_lines(path)] if path.exists() else []


def _drop_later_lines(path: Path, done: int) -> None:
    """Remove the lines of steps after `done`, and everything from the first damaged line on."""
    if path.exists():
        write_text(path, "".join(line + "\n" for step, line in _whole_lines(path) if step <= done))


def _whole_lines(path: Path) -> Iterator[tuple[float, str]]:
    """Step and text of each line of a record file up to the first line that is no JSON with a step."""
    check_readable(path)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield float(json.loads(line)["step"]), line
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return


def refuse_older(folder: Path, step: int, *, every: int) -> None:
    """Refuse a state of step `step` if the records show that the run wrote a later one; it writes one `every` steps.

    Raises:
        ModelError: the records reach further than a run gets between two states.
    """
    path, next_state = folder / METRICS, (step // every + 1) * every
    recorded = max((line_step for line_step, _ in _whole_lines(path)), default=0) if path.exists() else 0
    if recorded > next_state:
        raise ModelError(
            f"{folder}: its state is of step {step}, but {METRICS} reaches step {recorded:.0f}, and a state of step "
            f"{next_state} was written",
            hint=f"put the last state back, or remove {path} to go on from step {step}",
        )


def validation_figures(
    validation: ValidationCounts, ema_validation: ValidationCounts | None, *, guided: bool
) -> dict[str, float]:
    """The figures that metrics.jsonl keeps of a validation of the model and of the running mean of its weights.

    Coverage and precision describe pseudo-labels. They are those of the running mean, where the run has one, because it
    makes the pseudo-labels; else those of the students. If a frozen model makes them (`guided`) there are none.
    """
    figures = validation.facts() | _recalls(validation.confusions[FUSED])
    if ema_validation is not None:
        figures = {name: value for name, value in figures.items() if not name.endswith(("/coverage", "/precision"))}
        ema_figures = ema_validation.facts().items()
        figures |= {EMA + name: value for name, value in ema_figures if "/" in name and not name.endswith("/taught")}
    return {name: value for name, value in figures.items() if not (guided and about_labels(name))}


def _recalls(matrix: Confusion) -> dict[str, float]:
    """Recall of each class that has validation labels, by "fused/recall/" and the class id."""
    return {
        f"{FUSED}/recall/{class_id}": int(matrix[class_id, class_id]) / int(matrix[class_id].sum())
        for class_id in labelled_classes(matrix)
    }


def about_labels(name: str) -> bool:
    """Whether a figure of a validation describes pseudo-labels: how many there are, how good, who learns from them."""
    return name.endswith(("coverage", "precision", "taught", "agreement"))


def drifting(losses: list[dict[str, float]], validations: list[dict[str, float]], *, drop: float = 0.03) -> str | None:
    """A warning where pseudo-labels get worse while the loss falls: students that confirm each other's errors; or None.

    It comes at the first validation where the precision of a student's pseudo-labels is `drop` below its best so far,
    not at each one after that.
    """
    if len(validations) < 2 or len(losses) < 2:
        return None
    last, earlier = validations[-1], validations[:-1]
    for name in sorted(key for key in last if key.endswith("/precision")):
        lines = [line for line in earlier if name in line]
        if not lines:
            continue
        best = max(lines, key=lambda line: line[name])
        limit = best[name] - drop
        losses_then = [line["loss"] for line in losses if line["step"] <= best["step"]][-3:]
        losses_now = [line["loss"] for line in losses][-3:]
        falls = losses_then and sum(losses_now) / len(losses_now) < sum(losses_then) / len(losses_then)
        if last[name] < limit <= lines[-1][name] and falls:
            return (
                f"drift: the pseudo-labels of {name.partition('/')[0]} fell from {best[name]:.1%} right (step "
                f"{best['step']:.0f}) to {last[name]:.1%} while the loss fell; more labels, a higher threshold or "
                "class_thresholds help"
            )
    return None


def starving(
    validations: list[dict[str, float]], names: Sequence[str], *, high: float = 0.3, low: float = 0.1
) -> str | None:
    """A warning where pseudo-labels of other classes crowd out a class, so that its recall collapses; or None.

    It comes at the first validation where the recall is below `low`, if its mean over the three validations before is
    at least `high`.
    """
    for class_id, name in enumerate(names):
        key = f"{FUSED}/recall/{class_id}"
        lines = [line for line in validations if key in line]
        previous = lines[-4:-1]
        if len(previous) < 3 or not lines[-1][key] < low <= previous[-1][key]:
            continue
        best = max(lines[:-1], key=lambda line: line[key])
        if sum(line[key] for line in previous) / len(previous) >= high:
            return (
                f"drift: class {name} starves: {best[key]:.0%} of its labelled pixels were found (step "
                f"{best['step']:.0f}), now {lines[-1][key]:.0%}; more labels of it, "
                "balance=uniform or threshold_share help"
            )
    return None


def summary(values: dict[str, float]) -> str:
    """The loss and its terms for a log line; terms are means over the students."""
    merged: dict[str, list[float]] = {}
    for name, value in values.items():
        merged.setdefault(name.partition("/")[2] or name, []).append(value)
    return "  ".join(f"{name} {sum(numbers) / len(numbers):.3f}" for name, numbers in merged.items())


def duration(seconds: float) -> str:
    """A time as hours:minutes:seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
