"""Read YAML files that may be hostile: depth, aliases, numbers and mappings are limited in size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from co2s_cli.errors import ConfigError, one_line, shown
from co2s_cli.files import read_text

MAX_DEPTH = 50
MAX_ALIASES = 100
MAX_DIGITS = 20
MAX_KEYS = 10_000
"""Most keys of one mapping: merge keys (`<<`) can double the size of a mapping with each line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses content beyond the limits above and duplicate keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; refuses too deep nesting and too many aliases."""
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            self._limit(self._aliases, MAX_ALIASES, "aliases")
        self._depth += 1
        self._limit(self._depth, MAX_DEPTH, "levels of nesting")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping as a dict; refuses duplicate keys."""
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    raise yaml.MarkedYAMLError(
                        problem=f"{shown(key.value)} is given twice", problem_mark=key.start_mark
                    )
                names.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve the merge keys of a mapping; refuses too many keys."""
        super().flatten_mapping(node)
        self._limit(len(node.value), MAX_KEYS, "keys in a mapping")

    def integer(self, node: yaml.ScalarNode) -> int:
        """A whole number; refuses too many digits, before they are converted."""
        self._limit(sum(mark.isalnum() for mark in node.value), MAX_DIGITS, "digits in a number")
        return int(self.construct_yaml_int(node))

    def _limit(self, count: int, limit: int, what: str) -> None:
        if count > limit:
            raise yaml.MarkedYAMLError(problem=f"more than {limit} {what}")


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError, ValueError: the text is not YAML, or exceeds the limits of this module.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (AttributeError, LookupError, TypeError, RecursionError) as error:  # values that do not match their tags
        raise ValueError(one_line(error) or "a value is not of its type") from error
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; dashes in its keys are replaced by underscores.

    Raises:
        InputError: the file cannot be read, is no regular file, or is larger than 10 MB.
        ConfigError: its content is no mapping in YAML.
    """
    try:
        values = parse_yaml(read_text(path))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: is not YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: wants 'key: value' lines, found {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}
