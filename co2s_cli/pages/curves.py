"""The curves of a run as SVG, with labels in plain words and axes in the page's own ink, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from co2s_cli.pages.document import escaped

_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c6bb1", "#808080")
"""Told apart by most eyes, also by colour-blind ones (after Okabe and Ito), on white and on black."""

_DASHES = ("", "7 4", "2 3", "9 3 2 3")

_TERMS = {
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

_OWNERS = {"clip": "CLIP student", "dino": "DINO student", "local": "local student", "fused": "all together"}

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 480, 280, 46, 34, 10, 12

_MOST_POINTS = 400
"""Of a line: more is not to be seen."""

Records = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    label: str
    points: tuple[tuple[float, float], ...]
    color: str
    dash: str


def plain_label(key: str) -> str:
    """What a key of the records means: `clip/miou` is "mean IoU, CLIP student"."""
    owner, slash, term = key.rpartition("/")
    prefix = "mean of the weights, " if owner.startswith("ema-") else ""
    owner = owner.removeprefix("ema-")
    said = _TERMS.get(term, term.replace("_", " "))
    return said if not slash else f"{said}, {prefix}{_OWNERS.get(owner, owner)}"


def lines_of(records: Records, keys: Sequence[str]) -> list[Line]:
    """A line for each key in the records: colours by term, dashes by student; of one term, colours by student."""
    terms = list(dict.fromkeys(key.rpartition("/")[2] for key in keys))
    owners = list(dict.fromkeys(key.rpartition("/")[0] for key in keys))
    lines = []
    for key in keys:
        owner, _, term = key.rpartition("/")
        by_term, by_owner = terms.index(term), owners.index(owner)
        color, dash = (by_owner, 0) if len(terms) == 1 else (by_term, by_owner)
        points = [(line["step"], line[key]) for line in records if key in line]
        thin = points[:: max(1, len(points) // _MOST_POINTS)]
        label = plain_label(key)
        lines.append(Line(label, tuple(thin), _COLORS[color % len(_COLORS)], _DASHES[dash % len(_DASHES)]))
    return [line for line in lines if line.points]


def losses_by_term(records: Records) -> list[dict[str, float]]:
    """Lines of the record with one value a term: the mean over the students."""
    merged = []
    for line in records:
        parts: dict[str, list[float]] = {}
        for key, value in line.items():
            if "/" in key or key == "loss":
                parts.setdefault(key.partition("/")[2] or key, []).append(value)
        merged.append({"step": line["step"], **{term: sum(part) / len(part) for term, part in parts.items()}})
    return merged


def chart(title: str, lines: Sequence[Line], *, percent: bool) -> str:
    """A figure with a line for each curve, axes with numbers, and the labels below; `percent`: values are shares."""
    values = [value for line in lines for _, value in line.points]
    steps = [step for line in lines for step, _ in line.points]
    if not values:
        return f'<figure><figcaption>{escaped(title)}</figcaption><p class="soft">Nothing recorded.</p></figure>'
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if percent else nice_ticks(min(0.0, *values), max(values))
    first, last = min(steps), max(*steps, min(steps) + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    axes = "".join(_row(place(first, tick)[1], f"{100 * tick:.0f} %" if percent else f"{tick:g}") for tick in ticks)
    marks = [int(step) for step in nice_ticks(first, last) if first <= step <= last and float(step).is_integer()]
    axes += "".join(_column(place(step, ticks[0])[0], f"{step:,}") for step in marks)
    drawn = "".join(_drawn(line, [place(*point) for point in line.points]) for line in lines)
    keys = "".join(f"<li>{_key(line)}{escaped(line.label)}</li>" for line in lines)
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escaped(title)}, by step" font-size="11" fill="currentColor">{axes}{drawn}'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 1}" text-anchor="end">step</text></svg><ul>{keys}</ul></figure>'
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers, of which the first is not above `low` and the last not below `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 6)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(begin, max(end, begin + 1) + 1)]


def _row(y: float, label: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="currentColor" opacity=".2"/>'
        f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{label}</text>'
    )


def _column(x: float, label: str) -> str:
    return f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="middle">{label}</text>'


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> str:
    style = f'stroke="{line.color}" stroke-width="2" stroke-dasharray="{line.dash}" fill="none"'
    path = " ".join(f"{x},{y}" for x, y in places)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{line.color}"/>' for x, y in places[:40])
    title = f"<title>{escaped(line.label)}</title>"
    return f"<g>{title}<polyline points='{path}' {style}/>{dots if len(places) <= 40 else ''}</g>"


def _key(line: Line) -> str:
    stroke = f'stroke="{line.color}" stroke-width="3" stroke-dasharray="{line.dash}"'
    ends = 'x1="0" x2="32" y1="8" y2="8"'
    return f'<svg class="key" viewBox="0 0 32 16" aria-hidden="true"><line {ends} {stroke}/></svg>'
