"""Settings of `co2s sample`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.units import parse_whole


class SampleConfig(Settings):
    """A made-up landscape."""

    folder: Annotated[Path, Argument("FOLDER")]
    """Folder to write into; made if missing."""
    size: Annotated[int, Flag(panel="Input")] = Field(2048, ge=64, le=200_000)
    """Width and height in pixels of 0.5 m."""
    seed: Annotated[int, Flag(panel="Input")] = Field(1, ge=0, lt=2**24)
    """Number of the scene: two seeds differ in season, light, air, soil, roofs and plan, as two real scenes do."""
    classes: Annotated[str, Flag(panel="Input")] = ""
    """Classes to label, the rest is left unlabelled: 'road,water' takes two, 'built=building+road,water' joins some
    (all six if not given)."""
    bands: Annotated[Literal[3, 4], BeforeValidator(parse_whole), Flag(panel="Output")] = 3
    """3: red, green, blue; 4: near infrared as well."""
    dtype: Annotated[Literal["uint8", "uint16"], Flag(panel="Output")] = "uint8"
    """uint8, stretched for the eye, or uint16, reflectance × 10,000."""
    tilt: Annotated[bool, Flag(panel="Output")] = False
    """Leave a collar of nodata around a tilted footprint, as satellites do."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace outputs that exist."""
