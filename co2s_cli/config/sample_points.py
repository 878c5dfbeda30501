"""Settings of `co2s sample-points`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class SamplePointsConfig(Settings):
    """Settings of `co2s sample-points`."""

    source: Annotated[str, Argument("MAP")]
    """Class raster to draw from; pixels of 255 or nodata are never drawn."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Points to write, format by suffix (.gpkg .fgb .geojson), with an empty attribute `class` to fill in and the map's
    class."""
    per_class: Annotated[int, Flag("--per-class", "-n", panel="Input")] = Field(50, ge=2, le=1_000_000)
    """Number of points in each class of the map."""
    seed: Annotated[int, Flag(panel="Input")] = Field(0, ge=0)
    """Seed of the sample; the same map and seed give the same points."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace existing points, including the classes that were filled in."""
