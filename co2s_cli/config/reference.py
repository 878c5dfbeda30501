"""Generate reference tables of the documentation from settings and protocols.

`python -m co2s_cli.config.reference docs` writes `data.schema.json`, the JSON schema of data.yaml, and replaces the
text below the line MARK in `data.md` (keys of data.yaml) and `papers.md` (published protocols).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from co2s_cli.config.data import DataConfig
from co2s_cli.config.protocol import TrainingProtocol, find_protocol, published_names, published_rules

MARK = "<!-- the rest is made by `python -m co2s_cli.config.reference docs` -->"

_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "nothing",
}


def data_schema() -> dict[str, Any]:
    """JSON schema of a data.yaml, including short forms such as a plain name for an unlabelled image."""
    schema = DataConfig.model_json_schema()
    unlabeled = schema["properties"]["unlabeled"]
    unlabeled["items"] = {"anyOf": [unlabeled["items"], {"type": "string"}]}
    schema = _without_titles(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "data.yaml of co2s", **schema}


def data_keys() -> str:
    """Markdown tables: the top-level keys of data.yaml, then the keys of each kind of entry."""
    schema = data_schema()
    tables = [("The file", schema), *sorted(schema["$defs"].items(), key=lambda item: _rank(schema, item[0]))]
    return "\n".join(line for name, part in tables for line in _table(_heading(name, schema), part))


def write(folder: Path) -> None:
    """Update the schema and the generated parts of the pages in `folder`."""
    (folder / "data.schema.json").write_text(schema_text(), encoding="utf-8")
    for name, generate in GENERATED.items():
        page = folder / name
        by_hand = page.read_text(encoding="utf-8").partition(MARK)[0]
        page.write_text(f"{by_hand}{MARK}\n\n{generate()}", encoding="utf-8")


def schema_text() -> str:
    """Content of data.schema.json."""
    return json.dumps(data_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic generates; properties that are named `title` stay."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return {key: value if key in ("default", "const") else _without_titles(value) for key, value in kept.items()}


def _used_by(schema: Mapping[str, Any], name: str) -> list[str]:
    """Top-level keys whose values are entries of the schema definition `name`."""
    return [key for key, value in schema["properties"].items() if f"#/$defs/{name}" in json.dumps(value)]


def _rank(schema: Mapping[str, Any], name: str) -> int:
    """Position of the first top-level key that uses the schema definition `name`."""
    keys = list(schema["properties"])
    return min((keys.index(key) for key in _used_by(schema, name)), default=len(keys))


def _heading(name: str, schema: Mapping[str, Any]) -> str:
    return " and ".join(f"`{key}:`" for key in _used_by(schema, name)) or name


def _table(heading: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {heading}\n"
    yield f"{part.get('description', '')}\n".lstrip("\n")
    yield "| key | value | if not given | meaning |\n|---|---|---|---|"
    for key, value in part.get("properties", {}).items():
        meaning = " ".join(value.get("description", "").split())
        yield f"| `{key}` | {_kind(value)} | {_default(key, value, part)} | {meaning} |".replace("\n", " ")
    yield ""


def _kind(value: Mapping[str, Any]) -> str:
    """The type of a schema property in words, such as: list of whole number or text."""
    if "anyOf" in value:
        kinds = dict.fromkeys(_kind(item) for item in value["anyOf"] if item.get("type") != "null")
        return " or ".join(kinds)
    if "const" in value or "enum" in value:
        return ", ".join(f"`{word}`" for word in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        inner = value.get("prefixItems", [])
        return f"{len(inner)} × {_kind(inner[0])}" if inner else f"list of {_kind(value.get('items', {}))}"
    plain = "entry (below)" if "$ref" in value else _TYPES.get(str(value.get("type")), "`key: value` lines")
    return "path" if value.get("format") == "path" else plain


def _default(key: str, value: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    if key in part.get("required", []):
        return "**wanted**"
    default = value.get("default")
    return "–" if default in (None, [], {}, "") else f"`{json.dumps(default, ensure_ascii=False)}`"


def protocols() -> str:
    """A Markdown table of the published protocols, those of Co2S first, then the sources of their data."""
    by_name = [(name, find_protocol(name)) for name in published_names()]
    by_name.sort(key=lambda item: item[1].command, reverse=True)
    head = ("data set", "command", "images", "classes", "not scored", "crop", "batch", "epochs", "short side", "mIoU")
    rows = [head, ("---",) * len(head), *(_protocol_row(name, protocol) for name, protocol in by_name)]
    table = [f"| {' | '.join(row)} |" for row in rows]
    sources = [f"- `{name}`: {item.title}. Data: {item.get}. Lists: {item.lists_from}." for name, item in by_name]
    return "\n".join([*table, "", *sources, ""])


def _protocol_row(name: str, protocol: TrainingProtocol) -> tuple[str, ...]:
    training, images = protocol.training, protocol.images
    side = published_rules(protocol)["eval_resize"]
    return (
        f"`{name}`",
        protocol.command,
        f"{images['train']} + {images['val']}",
        str(len(protocol.classes)),
        ", ".join(protocol.excluded) or "–",
        str(training.crop),
        f"{training.batch} × {training.gpus} GPUs",
        str(training.epochs),
        str(side or "as it is"),
        ", ".join(f"{share}: {value:.1f}" for share, value in protocol.miou.items()) or "–",
    )


GENERATED = {"data.md": data_keys, "papers.md": protocols}
"""Function that generates the text below the line MARK, by name of the page."""


if __name__ == "__main__":
    write(Path(sys.argv[1]))
