"""Settings of `co2s suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from co2s_cli.config.evaluate import parse_values
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.mapping import MapConfig, ModelRunConfig
from co2s_cli.config.vectorize import Amount, Length


class SuggestConfig(ModelRunConfig):
    """Places of a scene where labels would teach a model most."""

    scene: Annotated[str, Argument("SCENE")]
    """GeoTIFF, COG, VRT, JPEG2000, anything GDAL opens, /vsi…, s3://, https://."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Boxes to write, format by suffix (.gpkg .fgb .geojson): an empty `class` to fill in, and why each was chosen."""
    count: Annotated[int, Flag("--count", "-n", panel="Labels")] = Field(20, ge=1, le=1000)
    """Places that are wanted."""
    size: Annotated[Length, Flag(panel="Labels", metavar="LENGTH")] = Amount(64, "px")
    """Side of a place: 64px, 320m; plain is pixels."""
    labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """Polygons or a raster that are labelled already: no place touches them."""
    attribute: Annotated[str, Flag(panel="Labels")] = "class"
    """Attribute of polygons in --labels: those that leave it empty are not labelled."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Labels", metavar="VALUE=none,…", repeats=True),
    ] = Field(default_factory=dict)
    """Values of --labels that mean "not labelled": 0=none."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace boxes that exist, with all that was filled in, and begin anew where unfinished work was other."""

    def mapping(self) -> MapConfig:
        """How the model maps the scene: what is finished of the map is continued by the next run."""
        shared: dict[str, Any] = {name: getattr(self, name) for name in ModelRunConfig.model_fields}
        return MapConfig(**shared, scenes=[self.scene], overwrite=self.overwrite, resume=True)

    @property
    def folder(self) -> Path:
        """Where the map lies while it is needed."""
        return self.out.with_name(f"{self.out.name}.parts")
