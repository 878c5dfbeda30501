"""The report of an evaluation: tables for the terminal, Markdown, JSON and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from co2s_cli.errors import OutputError
from co2s_cli.files import check_writable, write_text
from co2s_cli.scoring.plots import draw_confusion, draw_reliability
from co2s_cli.scoring.verdict import ClassScore, Verdict

REPORT_JSON, REPORT_MD, CONFUSION, RELIABILITY = "report.json", "report.md", "confusion.png", "reliability.png"
WRITTEN = (REPORT_JSON, REPORT_MD, CONFUSION, RELIABILITY)
NO_CLASS = "no class"

_COLUMNS = ("class", "IoU", "precision", "recall", "F1", "boundary F1", "true pixels", "on the map")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that holds a report already, or that cannot be made or written to.

    Raises:
        OutputError: one of these.
    """
    if (folder / REPORT_JSON).exists() and not overwrite:
        raise OutputError(f"{folder}: holds a report already", hint="add --overwrite, or choose another folder")
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise OutputError(f"{folder}: cannot be made into a folder, {existing} is a file")
    check_writable(existing)


def made_folder(folder: Path) -> None:
    """Make the folder of a report if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error


def write(folder: Path, verdict: Verdict, facts: Mapping[str, Any]) -> None:
    """Write a report; `facts` are the map, the truth and other facts. The curve of an earlier report is removed."""
    made_folder(folder)
    names = [score.name for score in verdict.classes]
    columns = [*names, NO_CLASS][: len(verdict.confusion[0])]
    matrix = np.array(verdict.confusion, np.int64)
    draw_confusion(folder / CONFUSION, matrix, names, columns=columns, title="% of the true class")
    (folder / RELIABILITY).unlink(missing_ok=True)
    if verdict.reliability is not None:
        draw_reliability(folder / RELIABILITY, verdict.reliability)
    write_text(folder / REPORT_MD, markdown(verdict, facts))
    write_text(folder / REPORT_JSON, json.dumps({**facts, **asdict(verdict)}, indent=2, default=str) + "\n")


def markdown(verdict: Verdict, facts: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Evaluation", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if isinstance(value, str)]
    lines += [f"- protocol: {verdict.protocol}"]
    lines += ["", "| | |", "|---|---:|", *(md_row(row) for row in summary(verdict))]
    header, *rows = class_rows(verdict)
    lines += [
        "",
        md_row(header),
        "|---|" + "---:|" * (len(header) - 1),
        *(md_row(row) for row in rows),
        "",
    ]
    lines += [f"- {remark}" for remark in facts.get("remarks", ())]
    lines += ["", "## Confusion", "", "Pixels by true class (row) and class on the map (column).", ""]
    names = [score.name for score in verdict.classes]
    columns = ["", *names, NO_CLASS][: len(verdict.confusion[0]) + 1]
    lines += [md_row(columns), "|---|" + "---:|" * (len(columns) - 1)]
    lines += [
        md_row([name, *(f"{count:,}" for count in row)]) for name, row in zip(names, verdict.confusion, strict=True)
    ]
    lines += ["", f"![confusion]({CONFUSION})"]
    lines += ["", f"![reliability]({RELIABILITY})"] if verdict.reliability is not None else []
    return "\n".join([*lines, ""])


def md_row(cells: Any) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(str(cell).strip().replace("|", "\\|") for cell in cells) + " |"


def summary(verdict: Verdict) -> list[tuple[str, str]]:
    """Names and values of the figures of the whole map."""
    rows = [
        ("mean IoU", percent(verdict.miou)),
        ("mean F1", percent(verdict.mf1)),
        (f"boundary F1 ({verdict.tolerance:g} px)", percent(verdict.boundary_f1)),
        ("overall accuracy", percent(verdict.accuracy)),
        ("kappa", f"{verdict.kappa:.3f}"),
        ("pixels", f"{verdict.pixels:,}"),
    ]
    if verdict.missing:
        kind = "counted as wrong" if verdict.missing_is_wrong else "left out"
        rows.append((f"labelled, no class on the map ({kind})", percent(verdict.missing_share)))
    if verdict.excluded:
        rows.append((f"excluded ({verdict.protocol})", ", ".join(verdict.excluded)))
    if verdict.reliability is not None:
        rows.append(("calibration error", percent(verdict.reliability.ece)))
        rows.append(("mean confidence", percent(verdict.reliability.confidence)))
    return rows


def class_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """Cells of a table: a header, then a row for each class, with figures in percent, right-aligned."""
    cells = [_COLUMNS, *(_cells(score) for score in verdict.classes)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    return [(row[0], *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))) for row in cells]


def _cells(score: ClassScore) -> tuple[str, ...]:
    figures = (score.iou, score.precision, score.recall, score.f1, score.boundary_f1)
    return (score.name, *map(percent, figures), f"{score.truth_pixels:,}", f"{score.map_pixels:,}")


def percent(share: float | None) -> str:
    """A share as text in percent; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"
