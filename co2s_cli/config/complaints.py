"""What is wrong with settings, in the user's words: the key as typed, the value found, the value wanted."""

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
"""What is wanted, by pydantic's type of error."""

Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value: ("labeled", 0, "image")."""


def complaints(kind: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> dict[Place, str]:
    """A phrase for each place of `values` that does not make settings of `kind`; the root has the empty place."""
    by_place: dict[Place, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_place.setdefault(_place(values, item), []).append(item)
    return {
        place: _phrase(kind, place, items)
        for place, items in by_place.items()
        if not (_is_shallow(items) and any(len(other) > len(place) == _shared(other, place) for other in by_place))
    }


def _shared(one: Place, other: Place) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _is_shallow(items: list[Any]) -> bool:
    """Whether only type or length are wrong: what is wrong inside the value says more."""
    return all(item["type"].endswith(("_type", "too_short")) for item in items)


def _place(values: Any, item: Any) -> Place:
    """Where in the values a complaint belongs; what pydantic adds about the forms of a value is left out."""
    place: list[str | int] = []
    for part in item["loc"]:
        within = (
            part in values
            if isinstance(values, dict)
            else isinstance(values, list | tuple) and part in range(len(values))
        )
        if within:
            values = values[part]
        if within or (part == item["loc"][-1] and item["type"] == "missing"):
            place.append(part)
    return tuple(place)


def _phrase(kind: type[BaseModel], place: Place, items: list[Any]) -> str:
    """What is wrong in a place, in one phrase: a value of several forms has a complaint for each of them."""
    if items[0]["type"] == "extra_forbidden":
        return f"{_named(kind, place)}: {_unknown(str(place[-1]), _model_at(kind, place[:-1]))}"
    if items[0]["type"] == "missing":
        return f"{_named(kind, place)} is missing"
    if not place:  # settings that do not go together: the message says all
        return " and ".join(_said(item) for item in items)
    wanted = dict.fromkeys(_wanted(item) for item in items)
    found = _found(items[0])
    if None in wanted:
        return f"{_named(kind, place)}: {' or '.join(dict.fromkeys(_said(item) for item in items))} (found {found})"
    return f"{_named(kind, place)}: found {found}, wants {' or '.join(str(text) for text in wanted)}"


def _found(item: Any) -> str:
    """The value that was found; a number that came as the text of a flag without quotes."""
    value = item["input"]
    return value if isinstance(value, str) and item["type"].startswith(("greater", "less")) else shown(value)


def _wanted(item: Any) -> str | None:
    """What a value should be; None where the message is a sentence of its own."""
    if item["type"] in _WANTED:
        return _WANTED[item["type"]].format(**item.get("ctx", {})).replace("'", "")
    said = _said(item)
    return said.removeprefix("wants ") if said.startswith("wants ") else None


def _said(item: Any) -> str:
    said = one_line(item["msg"]).removeprefix("Value error, ")
    return said.replace("Input should be", "wants").replace("a valid ", "a ")


def _named(kind: type[BaseModel], place: Place) -> str:
    """A place as a user knows it: `--out`, or `labeled.0.image`."""
    return as_typed(kind, str(place[0])) if len(place) == 1 else ".".join(str(part) for part in place)


def _unknown(name: str, kind: type[BaseModel] | None) -> str:
    known: Collection[str] = kind.model_fields if kind else ()
    near = difflib.get_close_matches(name, known, n=1)
    listed = f"; there are {', '.join(known)}" if 0 < len(known) <= 12 else ""
    return "no such setting" + (f", {near[0]} is meant?" if near else listed)


def _model_at(kind: type[BaseModel] | None, place: Place) -> type[BaseModel] | None:
    """The settings whose keys stand at `place` within settings of `kind`."""
    for part in place:
        if isinstance(part, str) and kind is not None:
            field = kind.model_fields.get(part)
            kind = next(_models_in(field.annotation), None) if field else None
    return kind


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
