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
    """Base class: frozen settings of one command. A field's docstring is its help text, its default the flag's."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    remote_outputs: ClassVar[frozenset[str]] = frozenset()
    """Names of the path fields whose output may go to object storage; all other outputs must be local paths."""
    remote_inputs: ClassVar[frozenset[str]] = frozenset()
    """Names of the path fields whose value may stay an address: `load` does not download it, each process does."""

    _config: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _other_outputs_are_files(self) -> Self:
        for name in type(self).model_fields.keys() - self.remote_outputs:
            entry, value = on_command_line(type(self), name), getattr(self, name)
            if isinstance(entry, Flag) and entry.panel == "Output" and isinstance(value, Path) and address_of(value):
                raise ValueError(f"{entry.spelled(name)[0]} {address_of(value)}: wants a path of this machine")
        return self

    @property
    def config_file(self) -> Path | None:
        """The YAML file that was read for these settings, or None."""
        return self._config


S = TypeVar("S", bound=Settings)


def given(**flags: Any) -> dict[str, Any]:
    """The flags that the user gave: those that are neither None nor an empty list."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def load(kind: type[S], config: Path | None, flags: Mapping[str, Any]) -> S:
    """Settings of class `kind`: its defaults, overridden by the YAML file, overridden by the flags.

    Input files given as addresses (URLs, buckets) are downloaded; the settings then hold the paths of the local copies.
    """
    settings = checked(kind, {**(read_yaml(config) if config else {}), **flags}, config=config, typed=flags)
    local_fields = kind.model_fields.keys() - kind.remote_inputs - kind.remote_outputs
    values = {name: getattr(settings, name) for name in local_fields}
    remote = {name: value for name, value in values.items() if isinstance(value, Path) and address_of(value)}
    return settings.model_copy(update={name: local_copy(path) for name, path in remote.items()}) if remote else settings


def checked(kind: type[S], values: Mapping[str, Any], *, config: Path | None = None, typed: Collection[str] = ()) -> S:
    """Validated settings of class `kind`.

    Args:
        kind: the class of the settings.
        values: raw values by field name.
        config: the YAML file that some values may come from; the error names it if a bad value does.
        typed: names of the fields that were given as flags.

    Raises:
        ConfigError: names every bad key.
    """
    try:
        settings = kind(**values)
    except ValidationError as error:
        problems = complaints(kind, values, error)
        bad_keys = {str(key_path[0]) if key_path else "" for key_path in problems}
        origin = f"{config}: " if config and not bad_keys <= {*typed, ""} else ""
        all_are_flags = all(on_command_line(kind, key) for key in bad_keys)
        hint = "see --help for the settings and their ranges" if all_are_flags else None
        raise ConfigError(f"{origin}{'; '.join(problems.values())}", hint=hint) from error
    settings._config = config
    return settings


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; see `yaml_file.read_yaml` for what is refused."""
    from co2s_cli.config.yaml_file import read_yaml  # imports PyYAML only when a file is given

    return read_yaml(path)
