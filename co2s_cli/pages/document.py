"""The HTML file: a template, its style and its script, filled in."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

_TABLE = """<p class="soft">{caption}</p><div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>
<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"""


def document(title: str, sections: Iterable[str], data: Mapping[str, Any]) -> str:
    """A whole page: `sections` are HTML, `data` is what the script works on."""
    parts = {
        "title": escaped(title),
        "css": _asset("page.css"),
        "js": _asset("page.js"),
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # no text can end the script
        "body": "\n".join(sections),
    }
    page = _asset("page.html")
    head, *rest = page.split("[[")  # split first: what is filled in may hold anything
    filled = [head]
    for piece in rest:
        name, _, after = piece.partition("]]")
        filled += [parts[name], after]
    return "".join(filled)


def escaped(value: object) -> str:
    """A text as HTML shows it."""
    return html.escape(str(value), quote=True)


def facts_list(facts: Mapping[str, object]) -> str:
    """Names and values as a list."""
    rows = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of cells that are HTML, some of them whole `<td …>`; the first column heads its rows."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows)
    return _TABLE.format(caption=escaped(caption), top=top, body=body)


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _asset(name: str) -> str:
    return files("co2s_cli.pages").joinpath(name).read_text(encoding="utf-8")
