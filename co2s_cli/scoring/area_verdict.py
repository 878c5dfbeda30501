"""Class areas and accuracies estimated from a sample of points, with names and hectares; tables and report files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from co2s_cli.files import write_text
from co2s_cli.scoring.areas import Interval, Numbers, estimate_areas
from co2s_cli.scoring.report import REPORT_JSON, REPORT_MD, made_folder, md_row

_HECTARE = 10_000
"""Square metres in a hectare."""

_METHOD = "± is half of the 95 % interval. Estimator: Olofsson et al. (2014), Remote Sensing of Environment 148, 42-57."


@dataclass(frozen=True, slots=True)
class EstimatedClass:
    """One class: its area on the map, and the estimates from the sample."""

    id: int
    name: str
    points: int
    """Number of sample points where the map has this class."""
    mapped: float
    """Area on the map, in the unit of the verdict."""
    mapped_share: float
    """`mapped` as a share of the whole map."""
    area: Interval
    """Area estimated from the sample, in the unit of the verdict."""
    share: Interval
    """`area` as a share of the whole map."""
    users: Interval | None
    """User's accuracy; None where the map does not have the class."""
    producers: Interval | None
    """Producer's accuracy; None where no point is of the class."""


@dataclass(frozen=True, slots=True)
class AreaVerdict:
    """Estimates from a stratified sample; margins are half the width of 95 % intervals."""

    unit: Literal["ha", "pixels"]
    """Unit of areas: pixels if the CRS does not give their size."""
    accuracy: Interval
    """Overall accuracy."""
    points: int
    classes: tuple[EstimatedClass, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Number of points by class on the map (row) and class that the interpreter saw (column)."""

    @classmethod
    def of(
        cls, counts: NDArray[np.int64], ground: Numbers, names: Mapping[int, str], *, in_metres: bool
    ) -> AreaVerdict:
        """The estimates for the classes in `names`.

        Args:
            counts: Number of points by class id on the map (row) and class id that the interpreter saw (column).
            ground: Area on the map by class id, in square metres or in pixels.
            names: Names of the classes by id.
            in_metres: Whether `ground` is in square metres.
        """
        ids = list(names)
        mapped = ground[ids] / (_HECTARE if in_metres else 1)
        matrix = counts[np.ix_(ids, ids)]
        estimates = estimate_areas(matrix, mapped)
        total = float(mapped.sum())
        classes = tuple(
            EstimatedClass(
                id=class_id,
                name=names[class_id],
                points=int(matrix[row].sum()),
                mapped=float(mapped[row]),
                mapped_share=float(mapped[row]) / total,
                area=_times(estimates.shares[row], total),
                share=estimates.shares[row],
                users=estimates.users[row],
                producers=estimates.producers[row],
            )
            for row, class_id in enumerate(ids)
        )
        unit: Literal["ha", "pixels"] = "ha" if in_metres else "pixels"
        confusion = tuple(tuple(row) for row in matrix.tolist())
        return cls(unit, estimates.accuracy, int(matrix.sum()), classes, confusion)


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, None if interval.margin is None else interval.margin * factor)


def area_rows(verdict: AreaVerdict) -> list[tuple[str, ...]]:
    """Cells of a table: a header, then a row for each class, with numbers right-aligned."""
    head = ("class", f"mapped {verdict.unit}", f"area {verdict.unit}", "share", "user's", "producer's", "points")
    cells = [head, *(_cells(item) for item in verdict.classes)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [(row[0], *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))) for row in cells]


def _cells(item: EstimatedClass) -> tuple[str, ...]:
    shares = (item.share, item.users, item.producers)
    return item.name, _amount(item.mapped), show_amount(item.area), *map(show_share, shares), str(item.points)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def show_amount(interval: Interval) -> str:
    """An area with its margin: 21,158 ± 6,158."""
    return f"{_amount(interval.value)} ± {'–' if interval.margin is None else _amount(interval.margin)}"


def show_share(interval: Interval | None) -> str:
    """A share with its margin in percent: 74.9 ± 21.3 %."""
    if interval is None:
        return "–"
    return f"{100 * interval.value:.1f} ± {'–' if interval.margin is None else f'{100 * interval.margin:.1f}'} %"


def summary_rows(verdict: AreaVerdict) -> list[tuple[str, str]]:
    """Names and values of the figures of the whole map."""
    return [("overall accuracy", show_share(verdict.accuracy)), ("points", f"{verdict.points:,}")]


def write(folder: Path, verdict: AreaVerdict, facts: Mapping[str, Any]) -> None:
    """Write report.json and report.md; `facts` are the map, the points and other facts to report."""
    made_folder(folder)
    write_text(folder / REPORT_MD, markdown(verdict, facts))
    write_text(folder / REPORT_JSON, json.dumps({**facts, **asdict(verdict)}, indent=2, default=str) + "\n")


def markdown(verdict: AreaVerdict, facts: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    header, *rows = area_rows(verdict)
    lines = ["# Areas and accuracies from a stratified sample", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if isinstance(value, str)]
    lines += [f"- {remark}" for remark in facts.get("remarks", ())]
    lines += ["", "| | |", "|---|---:|", *map(md_row, summary_rows(verdict)), ""]
    lines += [md_row(header), "|---|" + "---:|" * (len(header) - 1), *map(md_row, rows), ""]
    lines += [_METHOD]
    lines += ["", "## Points", "", "By class on the map (row) and class seen (column).", ""]
    names = [item.name for item in verdict.classes]
    lines += [md_row(["", *names]), "|---|" + "---:|" * len(names)]
    lines += [md_row([name, *row]) for name, row in zip(names, verdict.confusion, strict=True)]
    return "\n".join([*lines, ""])
