"""Settings of `co2s import`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ImportConfig(Settings):
    """Published checkpoints and the model file to make of them."""

    checkpoints: Annotated[tuple[Path, ...], Argument("CHECKPOINT...", repeats=True)] = Field(
        min_length=1, max_length=2
    )
    """The authors' best_clip.pth and best_dinov3.pth, in any order; one alone is allowed."""
    dataset: Annotated[str, Flag(panel="Model", metavar="NAME|FILE")]
    """Data set that they were trained on: whdld, loveda, potsdam, gid15, mer or msl, or a protocol file of your own."""
    out: Annotated[Path, Flag("--out", "-o", panel="Output")]
    """Model file to write (.safetensors)."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace the model file if it exists."""
