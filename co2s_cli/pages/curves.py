"""Curves of a training run as SVG figures; text and axes take the page's colour, for light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from co2s_cli.pages.document import escaped

_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c6bb1", "#808080")
"""Line colours that most people, also colour-blind ones, tell apart on white and on black (after Okabe and Ito)."""

_DASHES = ("", "7 4", "2 3", "9 3 2 3")

_TERM_LABELS = {
    "loss": "whole loss",
    "labeled": "on labels",
    "strong1": "on unlabelled pixels, first strong view",
    "strong2": "on unlabelled pixels, second strong view",
    "feature": "on unlabelled pixels, features dropped",
    "stability": "towards the surer student",
    "miou": "mean IoU",
    "coverage": "pixels with a pseudo-label",
    "precision": "pseudo-labels that are right",
    "taught": "pixels taught by another student",
    "agreement": "students agree",
}
"""Label of each term in the records."""

_STUDENT_LABELS = {"clip": "CLIP student", "dino": "DINO student", "local": "local student", "fused": "all together"}

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 480, 280, 46, 34, 10, 12

_MAX_POINTS = 400
"""About the most points of a line; more cannot be seen at the size of the figure."""

Records = Sequence[Mapping[str, float]]
"""Lines of a record: values by key, among them `step`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a figure."""

    label: str
    points: tuple[tuple[float, float], ...]
    """(step, value) of each point."""
    color: str
    dash: str
    """Dash pattern in SVG; empty: a solid line."""


def plain_label(key: str) -> str:
    """Label of a key in the records: `clip/miou` is "mean IoU, CLIP student"."""
    student, slash, term = key.rpartition("/")
    prefix = "mean of the weights, " if student.startswith("ema-") else ""
    student = student.removeprefix("ema-")
    term_label = _TERM_LABELS.get(term, term.replace("_", " "))
    return term_label if not slash else f"{term_label}, {prefix}{_STUDENT_LABELS.get(student, student)}"


def lines_of(records: Records, keys: Sequence[str]) -> list[Line]:
    """A line for each key that occurs in the records.

    Colours stand for terms and dashes for students; if there is only one term, colours stand for students.
    """
    terms = list(dict.fromkeys(key.rpartition("/")[2] for key in keys))
    students = list(dict.fromkeys(key.rpartition("/")[0] for key in keys))
    lines = []
    for key in keys:
        student, _, term = key.rpartition("/")
        term_index, student_index = terms.index(term), students.index(student)
        color, dash = (student_index, 0) if len(terms) == 1 else (term_index, student_index)
        points = [(record["step"], record[key]) for record in records if key in record]
        thinned = points[:: max(1, len(points) // _MAX_POINTS)]
        label = plain_label(key)
        lines.append(Line(label, tuple(thinned), _COLORS[color % len(_COLORS)], _DASHES[dash % len(_DASHES)]))
    return [line for line in lines if line.points]


def losses_by_term(records: Records) -> list[dict[str, float]]:
    """The records with one value per loss term, the mean over the students."""
    merged = []
    for record in records:
        values_by_term: dict[str, list[float]] = {}
        for key, value in record.items():
            if "/" in key or key == "loss":
                values_by_term.setdefault(key.partition("/")[2] or key, []).append(value)
        means = {term: sum(values) / len(values) for term, values in values_by_term.items()}
        merged.append({"step": record["step"], **means})
    return merged


def chart(title: str, lines: Sequence[Line], *, percent: bool) -> str:
    """An HTML figure with the lines, axes with numbers, and a legend below; with `percent`, values are shares."""
    values = [value for line in lines for _, value in line.points]
    steps = [step for line in lines for step, _ in line.points]
    if not values:
        return f'<figure><figcaption>{escaped(title)}</figcaption><p class="soft">Nothing recorded.</p></figure>'
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if percent else nice_ticks(min(0.0, *values), max(values))
    first, last = min(steps), max(*steps, min(steps) + 1)

    def to_pixels(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    axes = "".join(
        _grid_line(to_pixels(first, tick)[1], f"{100 * tick:.0f} %" if percent else f"{tick:g}") for tick in ticks
    )
    marks = [int(step) for step in nice_ticks(first, last) if first <= step <= last and float(step).is_integer()]
    axes += "".join(_step_label(to_pixels(step, ticks[0])[0], f"{step:,}") for step in marks)
    curves = "".join(_curve(line, [to_pixels(*point) for point in line.points]) for line in lines)
    legend = "".join(f"<li>{_legend_key(line)}{escaped(line.label)}</li>" for line in lines)
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escaped(title)}, by step" font-size="11" fill="currentColor">{axes}{curves}'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 1}" text-anchor="end">step</text></svg><ul>{legend}</ul></figure>'
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that enclose the range from `low` to `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _grid_line(y: float, label: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="currentColor" opacity=".2"/>'
        f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{label}</text>'
    )


def _step_label(x: float, label: str) -> str:
    return f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="middle">{label}</text>'


def _curve(line: Line, points: Sequence[tuple[float, float]]) -> str:
    """A line through `points` (in pixels of the figure), with dots if they are few."""
    style = f'stroke="{line.color}" stroke-width="2" stroke-dasharray="{line.dash}" fill="none"'
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{line.color}"/>' for x, y in points[:40])
    title = f"<title>{escaped(line.label)}</title>"
    return f"<g>{title}<polyline points='{path}' {style}/>{dots if len(points) <= 40 else ''}</g>"


def _legend_key(line: Line) -> str:
    stroke = f'stroke="{line.color}" stroke-width="3" stroke-dasharray="{line.dash}"'
    ends = 'x1="0" x2="32" y1="8" y2="8"'
    return f'<svg class="key" viewBox="0 0 32 16" aria-hidden="true"><line {ends} {stroke}/></svg>'
