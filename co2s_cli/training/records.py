"""What a run writes down as it goes: metrics.jsonl (numbers that a second run repeats), timing.jsonl, TensorBoard."""

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
"""White columns between the pictures of a crop."""


class Records:
    """The open records of a run folder; for the leading rank alone."""

    def __init__(self, folder: Path, *, done: int) -> None:
        """Go on after `done` steps: what a killed run wrote beyond its last whole state is dropped."""
        for name in (METRICS, TIMING):
            _cut(folder / name, done)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._timing = (folder / TIMING).open("a", encoding="utf-8")
        from torch.utils.tensorboard import SummaryWriter  # loads TensorBoard: only where it is written

        self._events: Any = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A line of numbers that any run with the same settings repeats."""
        self._metrics.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._metrics.flush()
        self._draw(step, values)

    def add_timing(self, step: int, values: Mapping[str, float]) -> None:
        """A line about speed and memory."""
        self._timing.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._timing.flush()
        self._draw(step, values)

    def add_views(self, step: int, views: Sequence[SampleView], colors: Sequence[Color]) -> None:
        """Crops of a validation as images of TensorBoard: image, labels and predictions beside each other."""
        for number, view in enumerate(views, 1):
            panels = view.panels(colors)
            gap = np.full((view.image.shape[0], _GAP, 3), 255, np.uint8)
            row = np.concatenate([part for panel in panels.values() for part in (panel, gap)][:-1], axis=1)
            self._events.add_image(f"crop {number}: {', '.join(panels)}", row, step, dataformats="HWC")

    def close(self) -> None:
        """Close all of them."""
        self._metrics.close()
        self._timing.close()
        self._events.close()

    def _draw(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


def read(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The training lines and the validation lines of metrics.jsonl."""
    lines = lines_of(folder / METRICS)
    return [line for line in lines if "loss" in line], [line for line in lines if "loss" not in line]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a record up to the first that is none; none where there is no record."""
    return [json.loads(line) for _, line in _whole_lines(path)] if path.exists() else []


def _cut(path: Path, done: int) -> None:
    """Drop the lines of later steps, and a last line that was cut short."""
    if path.exists():
        write_text(path, "".join(line + "\n" for step, line in _whole_lines(path) if step <= done))


def _whole_lines(path: Path) -> Iterator[tuple[float, str]]:
    """Step and text of each line of a record up to the first that is none."""
    check_readable(path)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield float(json.loads(line)["step"]), line
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return


def refuse_older(folder: Path, step: int, *, every: int) -> None:
    """Refuse a state of `step` steps where a later one was written, which happens `every` so many steps.

    Raises:
        ModelError: the records reach further than a run gets between two states.
    """
    path, due = folder / METRICS, (step // every + 1) * every
    told = max((line_step for line_step, _ in _whole_lines(path)), default=0) if path.exists() else 0
    if told > due:
        raise ModelError(
            f"{folder}: its state is of step {step}, but {METRICS} reaches step {told:.0f}, and a state of step {due} "
            "was written",
            hint=f"put the last state back, or remove {path} to go on from step {step}",
        )


def findings(tally: ValidationCounts, mean: ValidationCounts | None, *, guided: bool) -> dict[str, float]:
    """What the record keeps of a validation of the model and of the running mean of its weights.

    Coverage and precision are told of those alone that give the pseudo-labels: the mean, where there is one, else the
    students themselves. A frozen guide (`guided`) gives its own, of which the students' figures say nothing.
    """
    found = tally.facts() | _recalls(tally.confusions[FUSED])
    if mean is not None:
        found = {name: value for name, value in found.items() if not name.endswith(("/coverage", "/precision"))}
        theirs = {name: value for name, value in mean.facts().items() if "/" in name and not name.endswith("/taught")}
        found |= {EMA + name: value for name, value in theirs.items()}
    return {name: value for name, value in found.items() if not (guided and about_labels(name))}


def _recalls(matrix: Confusion) -> dict[str, float]:
    """Share of the labelled pixels of each class that are found, by the id of the class."""
    return {
        f"{FUSED}/recall/{class_id}": int(matrix[class_id, class_id]) / int(matrix[class_id].sum())
        for class_id in labelled_classes(matrix)
    }


def about_labels(name: str) -> bool:
    """Whether a figure of a validation says what is learnt from unlabelled pixels, and how well."""
    return name.endswith(("coverage", "precision", "taught", "agreement"))


def drifting(losses: list[dict[str, float]], validations: list[dict[str, float]], *, drop: float = 0.03) -> str | None:
    """One sentence where pseudo-labels get worse while the loss falls: the students confirm each other's errors.

    It is said when they have just become that bad, not at each validation after that; where there are no pseudo-labels
    there is nothing to say.
    """
    if len(validations) < 2 or len(losses) < 2:
        return None
    last, before = validations[-1], validations[:-1]
    for name in sorted(key for key in last if key.endswith("/precision")):
        known = [line for line in before if name in line]
        if not known:
            continue
        best = max(known, key=lambda line: line[name])
        bad = best[name] - drop
        then = [line["loss"] for line in losses if line["step"] <= best["step"]][-3:]
        now = [line["loss"] for line in losses][-3:]
        if last[name] < bad <= known[-1][name] and then and sum(now) / len(now) < sum(then) / len(then):
            return (
                f"drift: the pseudo-labels of {name.partition('/')[0]} fell from {best[name]:.1%} right (step "
                f"{best['step']:.0f}) to {last[name]:.1%} while the loss fell; more labels, a higher threshold or "
                "class_thresholds help"
            )
    return None


def starving(
    validations: list[dict[str, float]], names: Sequence[str], *, least: float = 0.3, left: float = 0.1
) -> str | None:
    """One sentence where a class is hardly found any more that was: pseudo-labels of other classes took its place.

    `least`: the share of its labelled pixels that the three validations before found in the mean; `left`: the share
    below which it starves. It is said when it has just come to that.
    """
    for class_id, name in enumerate(names):
        key = f"{FUSED}/recall/{class_id}"
        known = [line for line in validations if key in line]
        before = known[-4:-1]
        if len(before) < 3 or not known[-1][key] < left <= before[-1][key]:
            continue
        best = max(known[:-1], key=lambda line: line[key])
        if sum(line[key] for line in before) / len(before) >= least:
            return (
                f"drift: class {name} starves: {best[key]:.0%} of its labelled pixels were found (step "
                f"{best['step']:.0f}), now {known[-1][key]:.0%}; more labels of it, "
                "balance=uniform or threshold_share help"
            )
    return None


def summary(parts: dict[str, float]) -> str:
    """The loss and its parts as a person reads them: means over the students."""
    merged: dict[str, list[float]] = {}
    for name, value in parts.items():
        merged.setdefault(name.partition("/")[2] or name, []).append(value)
    return "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in merged.items())


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
