"""The report of a run, its curves and its confusion matrix, from the records and the last validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co2s_cli.files import write_text
from co2s_cli.metrics import Scores
from co2s_cli.plots import draw, draw_confusion, figure
from co2s_cli.training.ema import EMA
from co2s_cli.training.records import about_labels, findings, read
from co2s_cli.training.validate import FUSED, Tally

WRITTEN = ("report.json", "report.md", "curves.png", "confusion.png")


def write(
    folder: Path,
    tally: Tally | None,
    names: Sequence[str],
    facts: Mapping[str, Any],
    *,
    mean: Tally | None = None,
    guided: bool = False,
) -> dict[str, Any]:
    """Write the report into a run folder and give what report.json says. Without a validation there are no scores.

    `mean` is the validation of the running mean of the weights, where the run keeps one; `guided`: neither it nor the
    students gave the pseudo-labels, of which then nothing is known.
    """
    content: dict[str, Any] = dict(facts)
    if tally is not None:
        content["validation"] = {
            prefix + name: _scores(part.confusions[name], names)
            for prefix, part in (("", tally), (EMA, mean))
            if part is not None
            for name in part.told
        }
        told = findings(tally, mean, guided=guided)
        content["pseudo_labels"] = {key: value for key, value in told.items() if about_labels(key)}
        content["confusion"] = tally.confusions[FUSED].tolist()
    write_text(folder / "report.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "report.md", _markdown(content, names))
    _curves(folder)
    if tally is not None:
        fused = tally.confusions[FUSED]
        draw_confusion(folder / "confusion.png", fused, names, title="fused, % of the true class")
    return content


def _scores(matrix: Any, names: Sequence[str]) -> dict[str, Any]:
    scores = Scores.of(matrix)
    return {
        "miou": scores.miou,
        "accuracy": scores.accuracy,
        "kappa": scores.kappa,
        "pixels": scores.pixels,
        "iou": dict(zip(names, scores.iou, strict=True)),
        "f1": dict(zip(names, scores.f1, strict=True)),
    }


def _markdown(content: Mapping[str, Any], names: Sequence[str]) -> str:
    lines = ["# Training run", ""]
    lines += [
        f"- {key.replace('_', ' ')}: {value}" for key, value in content.items() if not isinstance(value, dict | list)
    ]
    found = content.get("validation")
    if not found:
        return "\n".join([*lines, "", "Not validated in this call.", ""])
    lines += ["", f"| IoU % | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    rows = [("mean", [part["miou"] for part in found.values()])]
    rows += [(name, [part["iou"][name] for part in found.values()]) for name in names]
    lines += [f"| {name} | {' | '.join(f'{100 * value:.1f}' for value in values)} |" for name, values in rows]
    lines += ["", "![curves](curves.png)", "", "![confusion](confusion.png)", ""]
    return "\n".join(lines)


def _curves(folder: Path) -> None:
    losses, validations = read(folder)
    made, axes = figure(3, 14, 4)
    for key in [key for key in (losses[-1] if losses else {}) if key not in ("step", "lr")]:
        axes[0].plot([line["step"] for line in losses], [line.get(key, 0.0) for line in losses], label=key, linewidth=1)
    for axis, endings in ((axes[1], ("miou",)), (axes[2], ("coverage", "precision", "agreement"))):
        for key in sorted({key for line in validations for key in line if key.endswith(endings)}):
            told = [line for line in validations if key in line]
            axis.plot([line["step"] for line in told], [line[key] for line in told], ".-", label=key)
        axis.set_ylim(0, 1)
    for axis, title in zip(axes, ("loss", "validation mIoU", "pseudo-labels on validation"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend(fontsize=7)
    draw(made, folder / "curves.png")
