"""Settings of `co2s info`."""

from pathlib import Path

from co2s_cli.config.base import Settings


class InfoConfig(Settings):
    """Something to be told about."""

    source: str
    """A scene (anything GDAL opens) or a model file (.safetensors)."""
    model: Path | None = None
    """Model file that the scene is meant for: says whether they fit, and why not."""
