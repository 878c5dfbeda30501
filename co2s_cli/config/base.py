"""Read settings from defaults, a YAML file and flags; one error names every bad key."""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from co2s_cli.errors import ConfigError, InputError


class Settings(BaseModel):
    """Frozen settings of one command; a field's docstring is its help text, its default the flag's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def given(**flags: Any) -> dict[str, Any]:
    """The flags that the user set: a flag that is None (or an empty list) was left alone."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def load(kind: type[S], config: Path | None, flags: dict[str, Any]) -> S:
    """Settings of `kind` from its defaults, then the YAML file, then the flags."""
    values = read_yaml(config) if config else {}
    try:
        return kind(**{**values, **flags})
    except ValidationError as error:
        by_place: dict[str, list[Any]] = {}
        for item in error.errors():
            by_place.setdefault(_place({**values, **flags}, item), []).append(item)
        problems = "; ".join(_problem(kind, place, items) for place, items in by_place.items())
        origin = f"{config}: " if config else ""
        raise ConfigError(f"{origin}{problems}", hint="--help tells the settings and their ranges") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    import yaml  # only when a file is given

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: wants 'key: value' lines, found {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _place(values: Any, item: Any) -> str:
    """Where in the values a complaint belongs, as a.1.b; what pydantic adds about the forms of a value is left out."""
    names = []
    for part in item["loc"]:
        within = (
            part in values
            if isinstance(values, dict)
            else isinstance(values, list | tuple) and part in range(len(values))
        )
        if within:
            values = values[part]
        if within or (part == item["loc"][-1] and item["type"] == "missing"):
            names.append(str(part))
    return ".".join(names)


def _problem(kind: type[Settings], place: str, items: list[Any]) -> str:
    """What is wrong in a place, in one phrase: a value of several forms has a complaint for each of them."""
    if items[0]["type"] == "extra_forbidden":
        return _unknown(kind, place)
    if items[0]["type"] == "missing":
        return f"{place}: is missing"
    complaints = " or ".join(dict.fromkeys(_complaint(item) for item in items)).replace(" or wants ", " or ")
    # about settings that do not go together the message says all
    return f"{place}: {complaints} (found {items[0]['input']!r})" if place else complaints


def _complaint(item: Any) -> str:
    said = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "wants").replace("a valid ", "a ")
    return re.sub(r"^Input |( for)? <class .*>$", "", said)


def _unknown(kind: type[Settings], name: str) -> str:
    near = difflib.get_close_matches(name, kind.model_fields, n=1)
    return f"{name}: no such setting" + (f", {near[0]} is meant?" if near else "")
