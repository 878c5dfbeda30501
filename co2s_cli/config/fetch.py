"""Settings of `co2s fetch`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag


class FetchConfig(Settings):
    """Pretrained weights for the cache."""

    names: Annotated[list[str], Argument("NAME", repeats=True)] = Field(default_factory=list)
    """What --clip, --dino, --student and --teacher take: NETWORK.TAG of timm, NETWORK:TAG of open_clip. default: all
    that co2s train wants; distill: the networks of RS-MTDF."""
    show: Annotated[bool, Flag("--list", "-l", panel="Output")] = False
    """Show the known weights with size, licence and whether they are in the cache; fetch nothing."""

    @model_validator(mode="after")
    def _wants_something(self) -> FetchConfig:
        if not self.names and not self.show:
            raise ValueError("wants a NAME, such as default, or --list")
        return self
