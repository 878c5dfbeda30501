"""Settings of `co2s sample`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.units import parse_whole


class SampleConfig(Settings):
    """Settings of `co2s sample`."""

    folder: Annotated[Path, Argument("FOLDER")]
    """Folder to write into; created if missing."""
    size: Annotated[int, Flag(panel="Input")] = Field(2048, ge=64, le=200_000)
    """Width and height of the scene in pixels of 0.5 m."""
    seed: Annotated[int, Flag(panel="Input")] = Field(1, ge=0, lt=2**24)
    """Seed of the scene; scenes of two seeds differ in season, light, haze, soil, roofs and layout, as real ones do."""
    classes: Annotated[str, Flag(panel="Input")] = ""
    """Classes to label; others stay unlabelled. 'road,water' selects two, 'built=building+road,water' also joins two
    as built. Default: all six."""
    bands: Annotated[Literal[3, 4], BeforeValidator(parse_whole), Flag(panel="Output")] = 3
    """3: red, green, blue; 4: also near infrared."""
    dtype: Annotated[Literal["uint8", "uint16"], Flag(panel="Output")] = "uint8"
    """Sample type. uint8: stretched for display; uint16: reflectance × 10,000."""
    tilt: Annotated[bool, Flag(panel="Output")] = False
    """Turn the footprint, with nodata around it, as in satellite scenes."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace existing outputs."""
