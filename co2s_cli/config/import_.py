"""Settings of `co2s import`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from co2s_cli.config.base import Settings


class ImportConfig(Settings):
    """Published checkpoints and the model file to make of them."""

    checkpoints: tuple[Path, ...] = Field(min_length=1, max_length=2)
    """The authors' best_clip.pth and best_dinov3.pth, in any order; one alone is allowed."""
    dataset: Literal["whdld", "loveda", "potsdam", "gid15", "mer", "msl"]
    """Data set that they were trained on: whdld, loveda, potsdam, gid15, mer or msl."""
    out: Path
    """Model file to write (.safetensors)."""
    overwrite: bool = False
    """Replace the model file if it exists."""
