"""Settings of `co2s init`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import BANDS_FLAG, Argument, Flag
from co2s_cli.config.units import Bands, WholeNumbers


class InitConfig(Settings):
    """Settings of `co2s init`."""

    scenes: Annotated[list[str], Argument("SCENE", repeats=True)] = Field(min_length=1)
    """Rasters (GeoTIFF, COG, VRT, any that GDAL opens), a folder, a glob or @list.txt. Scenes without labels become
    unlabelled images."""
    labels: Annotated[Path, Flag(panel="Labels")]
    """Polygons or points with their class in an attribute, in any CRS, as GeoPackage, GeoJSON, Shapefile, FlatGeobuf,
    GeoParquet, GML or KML; a point labels its pixel. Or a raster on the pixels of a scene, whose values are the
    classes."""
    attribute: Annotated[str | None, Flag(panel="Labels")] = None
    """Attribute of --labels that holds the class. Default: class, else the only suitable one, or the name
    beside its code."""
    overlaps: Annotated[Literal["refuse", "last"], Flag(panel="Labels")] = "refuse"
    """If polygons of different classes overlap. refuse: list them and write nothing; last: the last one in the file
    wins."""
    ignore: Annotated[WholeNumbers, Flag(panel="Labels", metavar="VALUE,…|none", repeats=True)] = None
    """Values of a raster of labels that mean "not labelled", besides nodata and 255. none: a 0 without a name is a
    class. Wanted only if there is such a 0."""
    bands: Annotated[Bands, BANDS_FLAG] = Field([])
    """Bands that the model sees: 8,4,3 or nir,red,green or 1..4, by number in the first labelled scene. Default: all
    but alpha."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")] = Path("data.yaml")
    """File to write."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace an existing file."""
