"""Settings of the commands: defaults, overridden by a YAML file, overridden by flags; validated when they are read."""

from co2s_cli.config.base import Settings, given, load

__all__ = ["Settings", "given", "load"]
