"""Error messages for invalid settings: the key as the user typed it, the value found, the value wanted."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from co2s_cli.config.flags import as_typed
from co2s_cli.errors import one_line, shown

_WANTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of at most 20 digits",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "a number ≥ {ge:g}",
    "greater_than": "a number > {gt:g}",
    "less_than_equal": "a number ≤ {le:g}",
    "less_than": "a number < {lt:g}",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "literal_error": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "lines of key: value",
    "model_type": "lines of key: value",
    "model_attributes_type": "lines of key: value",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
"""The value wanted, by pydantic's type of error."""

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead to a value: ("labeled", 0, "image")."""


def complaints(kind: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> dict[KeyPath, str]:
    """One phrase for each invalid value in `values`, by its key path; the empty path stands for all settings together.

    An error about the type or length of a value is dropped if there are errors about values inside it.
    """
    errors_by_path: dict[KeyPath, list[Any]] = {}
    for item in error.errors(include_url=False):
        errors_by_path.setdefault(_key_path(values, item), []).append(item)
    return {
        path: _phrase(kind, path, items)
        for path, items in errors_by_path.items()
        if not (_is_shallow(items) and any(_is_inside(other, path) for other in errors_by_path))
    }


def _is_inside(inner: KeyPath, outer: KeyPath) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _is_shallow(items: list[Any]) -> bool:
    """Whether the errors are about a value's type or length only."""
    return all(item["type"].endswith(("_type", "too_short")) for item in items)


def _key_path(values: Any, item: Any) -> KeyPath:
    """The key path of pydantic's error `item`: its `loc` without the parts that name the alternatives of a union."""
    path: list[str | int] = []
    for part in item["loc"]:
        is_key = (
            part in values
            if isinstance(values, dict)
            else isinstance(values, list | tuple) and part in range(len(values))
        )
        if is_key:
            values = values[part]
        if is_key or (part == item["loc"][-1] and item["type"] == "missing"):
            path.append(part)
    return tuple(path)


def _phrase(kind: type[BaseModel], path: KeyPath, items: list[Any]) -> str:
    """One phrase for all errors of one value: pydantic reports a separate error for each alternative of a union."""
    if items[0]["type"] == "extra_forbidden":
        return f"{_key_name(kind, path)}: {_unknown(str(path[-1]), _model_at(kind, path[:-1]))}"
    if items[0]["type"] == "missing":
        return f"{_key_name(kind, path)} is missing"
    if not path:  # settings that exclude each other: the validator's message is complete
        return " and ".join(_message(item) for item in items)
    wanted = dict.fromkeys(_wanted(item) for item in items)
    found = _found_value(items[0])
    if None in wanted:
        messages = dict.fromkeys(_message(item) for item in items)
        return f"{_key_name(kind, path)}: {' or '.join(messages)} (found {found})"
    return f"{_key_name(kind, path)}: found {found}, wants {' or '.join(str(text) for text in wanted)}"


def _found_value(item: Any) -> str:
    """The invalid value as text; no quotes around a number that came as text from a flag."""
    value = item["input"]
    return value if isinstance(value, str) and item["type"].startswith(("greater", "less")) else shown(value)


def _wanted(item: Any) -> str | None:
    """What the value should be, to follow "wants"; None if the error's message cannot be put that way."""
    if item["type"] in _WANTED:
        return _WANTED[item["type"]].format(**item.get("ctx", {})).replace("'", "")
    message = _message(item)
    return message.removeprefix("wants ") if message.startswith("wants ") else None


def _message(item: Any) -> str:
    """Pydantic's message in one line, without its prefix."""
    message = one_line(item["msg"]).removeprefix("Value error, ")
    return message.replace("Input should be", "wants").replace("a valid ", "a ")


def _key_name(kind: type[BaseModel], path: KeyPath) -> str:
    """A key as the user types it: `--out`, or `labeled.0.image` in a file."""
    return as_typed(kind, str(path[0])) if len(path) == 1 else ".".join(str(part) for part in path)


def _unknown(name: str, kind: type[BaseModel] | None) -> str:
    """What to say of the unknown key `name`: the most similar key of `kind`, or all its keys if they are few."""
    names: Collection[str] = kind.model_fields if kind else ()
    similar = difflib.get_close_matches(name, names, n=1)
    choices = f"; there are {', '.join(names)}" if 0 < len(names) <= 12 else ""
    return "no such setting" + (f", {similar[0]} is meant?" if similar else choices)


def _model_at(kind: type[BaseModel] | None, path: KeyPath) -> type[BaseModel] | None:
    """The class of the nested settings at `path` in settings of class `kind`; None if there are none."""
    for part in path:
        if isinstance(part, str) and kind is not None:
            field = kind.model_fields.get(part)
            kind = next(_models_in(field.annotation), None) if field else None
    return kind


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every settings class that a type annotation names."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
