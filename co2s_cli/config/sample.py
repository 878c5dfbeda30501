"""Settings of `co2s sample`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from co2s_cli.config.base import Settings


class SampleConfig(Settings):
    """A made-up landscape."""

    folder: Path
    """Folder to write into; made if missing."""
    size: int = Field(2048, ge=64, le=200_000)
    """Width and height in pixels of 0.5 m."""
    seed: int = Field(1, ge=0, lt=2**24)
    """Number of the scene: two seeds differ in season, light, air, soil, roofs and plan, as two real scenes do."""
    classes: str = ""
    """Classes to label, the rest is left unlabelled: 'road,water' takes two, 'built=building+road,water' joins some
    (all six if not given)."""
    bands: Literal[3, 4] = 3
    """3: red, green, blue; 4: near infrared as well."""
    dtype: Literal["uint8", "uint16"] = "uint8"
    """uint8, stretched for the eye, or uint16, reflectance × 10,000."""
    tilt: bool = False
    """Leave a collar of nodata around a tilted footprint, as satellites do."""
    overwrite: bool = False
    """Replace outputs that exist."""
