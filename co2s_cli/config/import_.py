"""Settings of `co2s import`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class ImportConfig(Settings):
    """Settings of `co2s import`."""

    checkpoints: Annotated[tuple[Path, ...], Argument("CHECKPOINT...", repeats=True)] = Field(
        min_length=1, max_length=2
    )
    """The published files best_clip.pth and best_dinov3.pth, in any order, or one of them."""
    dataset: Annotated[str, Flag(panel="Model", metavar="NAME|FILE")]
    """Data set that the checkpoints were trained on: whdld, loveda, potsdam, gid15, mer or msl, or your own protocol
    file."""
    out: Annotated[Path, Flag("--out", "-o", panel="Output")]
    """Model file to write (.safetensors)."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace an existing model file."""
