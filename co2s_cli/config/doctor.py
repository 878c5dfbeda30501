"""Settings of `co2s doctor`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Flag


class DoctorConfig(Settings):
    """What to look at."""

    speed: Annotated[bool, Flag("--speed/--no-speed", panel="Speed")] = True
    """Measure the speed of the demonstration model, which takes about two seconds."""
    gpu: Annotated[bool, Flag(panel="Speed")] = False
    """Check and measure co2s on the first CUDA device instead, in under 25 minutes; content where there is none."""
    gpu_out: Annotated[Path, Flag(panel="Output")] = Path("build/gpu")
    """Folder for report.md, figures.json and trace.json of --gpu."""
