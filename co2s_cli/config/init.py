"""Settings of `co2s init`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class InitConfig(Settings):
    """Scenes and polygons that become a data.yaml."""

    scenes: Annotated[list[str], Argument("SCENE", repeats=True)] = Field(min_length=1)
    """GeoTIFF, COG, VRT, anything GDAL opens, a folder, a glob, @list.txt. Scenes without polygons are unlabelled."""
    labels: Annotated[Path, Flag(panel="Labels")]
    """Polygons with the class in an attribute, in any vector format and CRS."""
    attribute: Annotated[str | None, Flag(panel="Labels")] = None
    """Attribute that names the class; if not given class, else the only one that can."""
    overlaps: Annotated[Literal["refuse", "last"], Flag(panel="Labels")] = "refuse"
    """Polygons of different classes that cover each other. refuse: they are told, nothing is written; last: the later
    one in the file wins."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")] = Path("data.yaml")
    """File to write."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace a file that exists."""
