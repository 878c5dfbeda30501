"""Checks of processor, graphics card, memory and disks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from co2s_cli.config.units import show_bytes
from co2s_cli.health.finding import Finding

_LITTLE_MEMORY = 3 * 10**9
"""With less free memory, in bytes, predict needs smaller windows."""
_LITTLE_DISK = 5 * 10**9
"""With less free disk space, in bytes, the parts of a large map or the checkpoints of a run may not fit."""


def device() -> Iterator[Finding]:
    """The device that `--device auto` uses, and whether it is fast in bf16."""
    import torch

    from co2s_cli.inference.model import pick_device, pick_precision

    auto = pick_device("auto")
    for index in range(torch.cuda.device_count() if auto.type == "cuda" else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield Finding("GPU", "ok", f"{properties.name}, {show_bytes(free)} of {show_bytes(total)} free")
    if auto.type == "mps":
        yield Finding("GPU", "ok", "Apple, through MPS")
    if auto.type == "cpu":
        yield Finding(
            "GPU",
            "note",
            "none that torch can use",
            "co2s runs on the CPU: train with --preset small; the default preset is for a GPU",
        )
    fast = pick_precision("auto", auto) == "bf16"
    yield Finding(
        "bf16",
        "ok",
        f"{auto.type} is {'fast' if fast else 'not fast'} in bf16, --precision auto uses {'bf16' if fast else 'fp32'}",
    )


def memory() -> Iterator[Finding]:
    """Cores and memory that this process may use, within the limits of its control group."""
    from co2s_cli.resources import available, cores

    free, total = available(), psutil.virtual_memory().total
    little = free < _LITTLE_MEMORY
    yield Finding("cores", "ok", str(cores(1)))
    yield Finding(
        "memory",
        "note" if little else "ok",
        f"{show_bytes(free)} of {show_bytes(total)} may be used",
        "close other programs, or map with --tile 256 and --mem-limit" if little else "",
    )


def disk() -> Iterator[Finding]:
    """Free space in the working folder, the temporary folder and the cache of weights, once per disk."""
    from huggingface_hub import constants

    checked_disks: set[int] = set()
    for path in (Path.cwd(), Path(tempfile.gettempdir()), Path(constants.HF_HUB_CACHE)):
        folder = next(parent for parent in (path, *path.parents) if parent.exists())
        if folder.stat().st_dev in checked_disks:
            continue
        checked_disks.add(folder.stat().st_dev)
        free = shutil.disk_usage(folder).free
        little = free < _LITTLE_DISK
        advice = "make room: a map of 20,000 × 20,000 pixels takes about 2 GB while it is made" if little else ""
        yield Finding("disk", "note" if little else "ok", f"{show_bytes(free)} free in {folder}", advice)
