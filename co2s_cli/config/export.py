"""Settings of `co2s export`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ExportConfig(Settings):
    """A model for other programs."""

    model: Annotated[Path, Argument("MODEL")]
    """Model file (.safetensors)."""
    onnx: Annotated[Path, Flag("--onnx", "-o", panel="Output")]
    """ONNX file to write: class probabilities of windows, with what QGIS's Deepness plugin reads."""
    tile: Annotated[int | None, Flag(panel="Model")] = Field(None, ge=16, le=16384)
    """Side of the windows in pixels, which is fixed in the file; the model's own where nothing is said."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace the file where it exists."""
