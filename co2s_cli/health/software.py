"""Checks of Python and of the libraries that compute."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from co2s_cli import __version__
from co2s_cli.health.finding import Finding

_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists where Linux runs NVIDIA's driver."""
_CUDA = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126"


def python() -> Iterator[Finding]:
    """Versions of co2s and of the interpreter, and its environment."""
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield Finding("co2s", "ok", __version__)
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {where}")


def libraries() -> Iterator[Finding]:
    """Versions of torch, its build, and of what holds the networks."""
    import torch

    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU alone"
    unused, threads = torch.version.cuda is None and _DRIVER.exists(), torch.get_num_threads()
    yield Finding(
        "torch",
        "note" if unused else "ok",
        f"{torch.__version__}, built {built}, {threads} thread{'s' * (threads != 1)}",
        f"this machine has an NVIDIA driver that this torch cannot use: {_CUDA}" if unused else "",
    )
    yield Finding("networks", "ok", f"timm {version('timm')}, open_clip {version('open_clip_torch')}")
