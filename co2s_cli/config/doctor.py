"""Settings of `co2s doctor`."""

from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Flag


class DoctorConfig(Settings):
    """What to look at."""

    speed: Annotated[bool, Flag("--speed/--no-speed", panel="Speed")] = True
    """Measure the speed of the demonstration model, which takes about two seconds."""
