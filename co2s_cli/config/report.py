"""Settings of `co2s report`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ReportConfig(Settings):
    """Settings of `co2s report`."""

    source: Annotated[str, Argument("RUN|MAP")]
    """Folder of a training run, or a class raster."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """HTML file to write; it is self-contained and needs no network."""
    image: Annotated[str | None, Flag(panel="Input", metavar="SCENE")] = None
    """Scene from which the map was made, shown below the map."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Confidence raster of co2s predict: adds a layer and a list of the least sure places."""
    disagreement: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Disagreement raster of co2s predict: adds a layer."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace an existing report."""
