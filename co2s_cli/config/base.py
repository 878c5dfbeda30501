"""Read settings from defaults, a YAML file and flags; one error names every bad key."""

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
        problems = "; ".join(_problem(kind, item) for item in error.errors())
        origin = f"{config}: " if config else ""
        raise ConfigError(f"{origin}{problems}", hint="see --help for the settings and their ranges") from error


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


def _problem(kind: type[Settings], item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        return f"{name}: no such setting (known: {', '.join(sorted(kind.model_fields))})"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" + (f" (found {item['input']!r})" if item["type"] != "missing" else "")
