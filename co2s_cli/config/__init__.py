"""Settings of the commands: defaults < YAML file < flags, checked once."""

from co2s_cli.config.base import Settings, given, load

__all__ = ["Settings", "given", "load"]
