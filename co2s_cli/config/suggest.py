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
    """Settings of `co2s suggest`."""

    scene: Annotated[str, Argument("SCENE")]
    """Raster (GeoTIFF, COG, VRT, JPEG2000, any that GDAL opens) as a path, /vsi…, s3:// or https://."""
    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Boxes to write, format by suffix (.gpkg .fgb .geojson), with an empty attribute `class` to fill in and the reason
    for each box."""
    count: Annotated[int, Flag("--count", "-n", panel="Labels")] = Field(20, ge=1, le=1000)
    """Number of boxes."""
    size: Annotated[Length, Flag(panel="Labels", metavar="LENGTH")] = Amount(64, "px")
    """Side of a box: 64px or 320m; without a unit in pixels."""
    labels: Annotated[Path | None, Flag(panel="Labels")] = None
    """Polygons, points or a raster with existing labels; no box touches them."""
    attribute: Annotated[str, Flag(panel="Labels")] = "class"
    """Attribute of --labels that holds the class; polygons where it is empty are not labelled."""
    values: Annotated[
        dict[int | str, int | str | None],
        BeforeValidator(parse_values),
        Flag(panel="Labels", metavar="VALUE=none,…", repeats=True),
    ] = Field(default_factory=dict)
    """Values in --labels that mean "not labelled": 0=none."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace existing boxes, including filled-in classes, and discard unfinished work that was begun with other
    settings."""

    def mapping(self) -> MapConfig:
        """Settings for mapping the scene; with `resume`, so that the next call continues an interrupted map."""
        shared: dict[str, Any] = {name: getattr(self, name) for name in ModelRunConfig.model_fields}
        return MapConfig(**shared, scenes=[self.scene], overwrite=self.overwrite, resume=True)

    @property
    def folder(self) -> Path:
        """Folder of the temporary map."""
        return self.out.with_name(f"{self.out.name}.parts")
