"""Settings from defaults, a YAML file and flags; one error names every bad key."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, model_validator

from co2s_cli.addresses import address_of
from co2s_cli.cloud import local_copy
from co2s_cli.config.complaints import complaints
from co2s_cli.config.flags import Flag, on_command_line
from co2s_cli.errors import ConfigError


class Settings(BaseModel):
    """Frozen settings of one command; a field's docstring is its help text, its default the flag's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    to_addresses: ClassVar[frozenset[str]] = frozenset()
    """Fields of outputs that may lie in object storage."""
    by_address: ClassVar[frozenset[str]] = frozenset()
    """Fields of inputs that each process fetches for itself, where they lie at an address."""

    _config: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _other_outputs_are_files(self) -> Self:
        for name in type(self).model_fields.keys() - self.to_addresses:
            entry, value = on_command_line(type(self), name), getattr(self, name)
            if isinstance(entry, Flag) and entry.panel == "Output" and isinstance(value, Path) and address_of(value):
                raise ValueError(f"{entry.spelled(name)[0]} {address_of(value)}: wants a path of this machine")
        return self

    @property
    def config_file(self) -> Path | None:
        """The YAML file that some of the settings are from."""
        return self._config


S = TypeVar("S", bound=Settings)


def given(**flags: Any) -> dict[str, Any]:
    """The flags that the user set: a flag that is None (or an empty list) was left alone."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def load(kind: type[S], config: Path | None, flags: Mapping[str, Any]) -> S:
    """Settings of `kind` from its defaults, then the YAML file, then the flags.

    Files that lie at an address are fetched, and the settings name their copies.
    """
    settings = checked(kind, {**(read_yaml(config) if config else {}), **flags}, config=config, typed=flags)
    values = {name: getattr(settings, name) for name in kind.model_fields.keys() - kind.by_address - kind.to_addresses}
    named = {name: value for name, value in values.items() if isinstance(value, Path) and address_of(value)}
    return settings.model_copy(update={name: local_copy(path) for name, path in named.items()}) if named else settings


def checked(kind: type[S], values: Mapping[str, Any], *, config: Path | None = None, typed: Collection[str] = ()) -> S:
    """Settings of `kind` from `values`, of which those named in `typed` were flags and others may be from `config`.

    Raises:
        ConfigError: with every bad key.
    """
    try:
        settings = kind(**values)
    except ValidationError as error:
        problems = complaints(kind, values, error)
        keys = {str(place[0]) if place else "" for place in problems}
        origin = f"{config}: " if config and not keys <= {*typed, ""} else ""
        told = all(on_command_line(kind, key) for key in keys)
        hint = "--help tells the settings and their ranges" if told else None
        raise ConfigError(f"{origin}{'; '.join(problems.values())}", hint=hint) from error
    settings._config = config
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, refused where it is hostile."""
    from co2s_cli.config.yaml_file import read_yaml  # YAML only where a file is given

    return read_yaml(path)
