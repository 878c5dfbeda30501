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
"""Bytes below which predict has to cut its windows smaller."""
_LITTLE_DISK = 5 * 10**9
"""Bytes below which the parts of a large map, or a run with its states, may not fit."""


def device() -> Iterator[Finding]:
    """The device that `--device auto` takes, and the number format that it is quick at."""
    import torch

    from co2s_cli.inference.model import pick_device, pick_precision

    chosen = pick_device("auto")
    for index in range(torch.cuda.device_count() if chosen.type == "cuda" else 0):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield Finding("GPU", "ok", f"{facts.name}, {show_bytes(free)} of {show_bytes(total)} free")
    if chosen.type == "mps":
        yield Finding("GPU", "ok", "Apple, through MPS")
    if chosen.type == "cpu":
        yield Finding(
            "GPU",
            "note",
            "none that torch can use",
            "co2s runs on the CPU: train with --preset small; the default preset is for a GPU",
        )
    quick = pick_precision("auto", chosen) == "bf16"
    yield Finding(
        "bf16",
        "ok",
        f"{chosen.type} is {'quick' if quick else 'not quick'} at it, auto takes {'it' if quick else 'fp32'}",
    )


def memory() -> Iterator[Finding]:
    """Cores and memory that this process may use, control groups respected."""
    from co2s_cli.inference.memory import available, cores

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
    """Room where one works, where temporary files go, and where weights are cached; folders of one disk once."""
    from huggingface_hub import constants

    seen: set[int] = set()
    for wanted in (Path.cwd(), Path(tempfile.gettempdir()), Path(constants.HF_HUB_CACHE)):
        folder = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
        if folder.stat().st_dev in seen:
            continue
        seen.add(folder.stat().st_dev)
        free = shutil.disk_usage(folder).free
        little = free < _LITTLE_DISK
        advice = "make room: a map of 20,000 × 20,000 pixels takes about 2 GB while it is made" if little else ""
        yield Finding("disk", "note" if little else "ok", f"{show_bytes(free)} free in {folder}", advice)
