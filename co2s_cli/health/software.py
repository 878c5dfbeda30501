"""Checks of Python and of the deep-learning libraries."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from co2s_cli import __version__
from co2s_cli.health.finding import Finding

_DRIVER = Path("/proc/driver/nvidia/version")
"""This file exists if NVIDIA's driver is loaded (Linux)."""
_INSTALL_CUDA = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126"


def python() -> Iterator[Finding]:
    """Versions of co2s and Python, and whether Python runs in a virtual environment."""
    environment = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield Finding("co2s", "ok", __version__)
    yield Finding(
        "Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {environment}"
    )


def libraries() -> Iterator[Finding]:
    """Version and build of torch, and versions of timm and open_clip."""
    import torch

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU alone"
    gpu_unused, threads = torch.version.cuda is None and _DRIVER.exists(), torch.get_num_threads()
    yield Finding(
        "torch",
        "note" if gpu_unused else "ok",
        f"{torch.__version__}, built {build}, {threads} thread{'s' * (threads != 1)}",
        f"this machine has an NVIDIA driver that this torch cannot use: {_INSTALL_CUDA}" if gpu_unused else "",
    )
    yield Finding("networks", "ok", f"timm {version('timm')}, open_clip {version('open_clip_torch')}")
