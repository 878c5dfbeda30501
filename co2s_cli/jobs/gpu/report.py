"""The Markdown report of GPU checks and measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown(machine: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> str:
    """The text of the report: the machine, a table with a row for each check, a list for each measurement."""
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in machine.items() if value is not None)
    checks = (_check_line(outcome) for outcome in outcomes if outcome["kind"] == "check")
    figures = [line for outcome in outcomes if outcome["kind"] == "figure" for line in _figure_lines(outcome)]
    head = [
        "# GPU report",
        "",
        facts,
        "",
        "## Checks",
        "",
        "| check | result | seconds | figures |",
        "|---|---|---:|---|",
    ]
    return "\n".join([*head, *checks, "", "## Figures", "", *figures]) + "\n"


def _check_line(outcome: Mapping[str, Any]) -> str:
    """A row of the table of checks."""
    values = outcome["figures"].get(outcome["name"], {})
    texts = [*_pairs(values), *([outcome["error"]] if outcome["error"] else [])]
    return f"| {outcome['name']} | {outcome['state']} | {outcome['seconds']:.0f} | {_cell('; '.join(texts))} |"


def _figure_lines(outcome: Mapping[str, Any]) -> Iterable[str]:
    """A heading, and a list item for each figure of a measurement."""
    error = f": {outcome['error']}" if outcome["error"] else ""
    yield f"### {outcome['name']} ({outcome['state']}, {outcome['seconds']:.0f} s{error})"
    yield ""
    for name, values in outcome["figures"].items():
        yield f"- **{name}**: {'; '.join(_pairs(values))}"
    yield ""


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} {_shown(value)}" for name, value in values.items() if value is not None]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """The text, escaped for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
