"""Settings of `co2s doctor`."""

from pathlib import Path
from typing import Annotated

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Flag


class DoctorConfig(Settings):
    """Settings of `co2s doctor`: which checks to run."""

    speed: Annotated[bool, Flag("--speed/--no-speed", panel="Speed")] = True
    """Measure the mapping speed of the demonstration model; takes about two seconds."""
    gpu: Annotated[bool, Flag(panel="Speed")] = False
    """Only check and measure co2s on the first CUDA device, in under 25 minutes; succeeds if there is none."""
    gpu_out: Annotated[Path, Flag(panel="Output")] = Path("build/gpu")
    """Folder for the results of --gpu: report.md, figures.json and trace.json."""
