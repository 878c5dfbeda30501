"""Settings of `co2s fetch`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class FetchConfig(Settings):
    """Settings of `co2s fetch`."""

    names: Annotated[list[str], Argument("NAME", repeats=True)] = Field(default_factory=list)
    """Weights to download: NETWORK.TAG of timm or NETWORK:TAG of open_clip, as for --clip, --dino, --student and
    --teacher. default: all that co2s train uses by default; distill: the networks of RS-MTDF."""
    show: Annotated[bool, Flag("--list", "-l", panel="Output")] = False
    """List the known weights with size, licence and whether they are in the cache; download nothing."""

    @model_validator(mode="after")
    def _wants_something(self) -> FetchConfig:
        if not self.names and not self.show:
            raise ValueError("wants a NAME, such as default, or --list")
        return self
