"""Read settings from defaults, a YAML file and flags; one error names every bad key."""

import difflib
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
        by_setting: dict[str, list[Any]] = {}
        for item in error.errors():
            by_setting.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
        problems = "; ".join(_problem(kind, name, items) for name, items in by_setting.items())
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


def _problem(kind: type[Settings], name: str, items: list[Any]) -> str:
    """What is wrong with a setting, in one phrase: a setting of several forms has a complaint for each of them."""
    if items[0]["type"] == "extra_forbidden":
        return _unknown(kind, name)
    if items[0]["type"] == "missing":
        return f"{name}: is missing"
    said = list(dict.fromkeys(_complaint(item) for item in items))
    if not name:  # about settings that do not go together: the message names them
        return "; ".join(said)
    place = ".".join([name, *(str(part) for part in items[0]["loc"][1:] if isinstance(part, int))])
    complaints = " or ".join(said).replace(" or wants ", " or ")
    return f"{place}: {complaints} (found {items[0]['input']!r})"


def _complaint(item: Any) -> str:
    return str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "wants").replace("a valid ", "a ")


def _unknown(kind: type[Settings], name: str) -> str:
    near = difflib.get_close_matches(name, kind.model_fields, n=1)
    return f"{name}: no such setting" + (f", {near[0]} is meant?" if near else "")
