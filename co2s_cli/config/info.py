"""Settings of `co2s info`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class InfoConfig(Settings):
    """Something to be told about."""

    source: Annotated[str, Argument("SCENE|MODEL")]
    """A scene (anything GDAL opens) or a model file (.safetensors)."""
    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file that the scene is meant for: says whether they fit, and why not."""
