"""Settings of `co2s info`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class InfoConfig(Settings):
    """Settings of `co2s info`."""

    source: Annotated[str, Argument("SCENE|MODEL")]
    """A scene (any raster that GDAL opens) or a model file (.safetensors)."""
    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file: check whether the scene fits this model, and list the reasons if not."""
