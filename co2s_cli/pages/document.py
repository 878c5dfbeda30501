"""Build the HTML file from a template, a style sheet and a script."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

_TABLE = """<p class="soft">{caption}</p><div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>
<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"""


def document(title: str, sections: Iterable[str], data: Mapping[str, Any]) -> str:
    """A complete HTML page; `sections` are HTML, `data` is JSON for the script."""
    parts = {
        "title": escaped(title),
        "css": _asset("page.css"),
        "js": _asset("page.js"),
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # so that no text can close the script tag
        "body": "\n".join(sections),
    }
    page = _asset("page.html")
    head, *rest = page.split("[[")  # split before filling in: the parts may contain brackets, too
    pieces = [head]
    for piece in rest:
        name, _, after = piece.partition("]]")
        pieces += [parts[name], after]
    return "".join(pieces)


def escaped(value: object) -> str:
    """The value as text, escaped for HTML."""
    return html.escape(str(value), quote=True)


def facts_list(facts: Mapping[str, object]) -> str:
    """Names and values as an HTML list."""
    rows = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """An HTML table. Cells are HTML: content or whole `<td …>` elements; the first column has the row headers."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows)
    return _TABLE.format(caption=escaped(caption), top=top, body=body)


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _asset(name: str) -> str:
    return files("co2s_cli.pages").joinpath(name).read_text(encoding="utf-8")
