"""Settings of `co2s sample`."""

from pathlib import Path

from pydantic import Field

from co2s_cli.config.base import Settings


class SampleConfig(Settings):
    """A made-up landscape."""

    folder: Path
    """Folder to write into."""
    size: int = Field(2048, ge=1)
    """Width and height in pixels."""
    seed: int = 1
    """Two seeds differ as two real scenes do."""
