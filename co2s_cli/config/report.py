"""Settings of `co2s report`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ReportConfig(Settings):
    """A map, or a training run, as one HTML file."""

    source: Annotated[str, Argument("RUN|MAP")]
    """Folder of a training run, or a class raster."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """HTML file to write; it needs nothing beside it and no network."""
    image: Annotated[str | None, Flag(panel="Input", metavar="SCENE")] = None
    """Scene that the map was made of, to lay it over."""
    confidence: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Raster of confidences as predict writes it: a layer, and the least sure places."""
    disagreement: Annotated[str | None, Flag(panel="Input", metavar="RASTER")] = None
    """Raster of how far the students are apart as predict writes it: a layer."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace a report that exists."""
