"""Settings of `co2s export`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ExportConfig(Settings):
    """Settings of `co2s export`."""

    model: Annotated[Path, Argument("MODEL")]
    """Model file (.safetensors)."""
    onnx: Annotated[Path, Flag("--onnx", "-o", panel="Output")]
    """ONNX file to write: from an image window to class probabilities, with the metadata of QGIS's Deepness plugin."""
    tile: Annotated[int | None, Flag(panel="Model")] = Field(None, ge=16, le=16384)
    """Side of the windows in pixels; it is fixed in the ONNX file. Default: as the model file says."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace an existing file."""
