"""Figures for people: the lines of a table, a report in Markdown and JSON, and its pictures."""

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
    """Refuse, before any work, a folder that holds a report already, or that cannot be made or written to."""
    if (folder / REPORT_JSON).exists() and not overwrite:
        raise OutputError(f"{folder}: holds a report already", hint="add --overwrite, or choose another folder")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{folder}: cannot be made into a folder, {there} is a file")
    check_writable(there)


def made_folder(folder: Path) -> None:
    """Make the folder of a report where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error


def write(folder: Path, verdict: Verdict, facts: Mapping[str, Any]) -> None:
    """Write a report; `facts` says what was judged. A curve that an earlier report left goes."""
    made_folder(folder)
    names = [one.name for one in verdict.classes]
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
    names = [one.name for one in verdict.classes]
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
    """Figures of the whole map, by name, in percent."""
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
    """A header, then a row for each class; figures in percent, right-aligned under their heads."""
    cells = [_COLUMNS, *(_cells(one) for one in verdict.classes)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    return [(row[0], *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))) for row in cells]


def _cells(one: ClassScore) -> tuple[str, ...]:
    figures = (one.iou, one.precision, one.recall, one.f1, one.boundary_f1)
    return (one.name, *map(percent, figures), f"{one.truth_pixels:,}", f"{one.map_pixels:,}")


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"
