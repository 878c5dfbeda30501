"""In which number format a model runs on a device, and the model made ready for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from co2s_cli.errors import ConfigError, ResourceError

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Either makes a processor quick at bfloat16."""


def pick_device(wanted: str, place: int = 0) -> torch.device:
    """The device of `--device`: `auto` is a GPU, else the CPU.

    `place` counts the processes of this machine that share a scene: each takes a GPU of its own where none is named.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"--device {wanted}: wants auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ResourceError(f"--device {wanted}: this machine has {count} CUDA devices", hint="use --device auto")
        return torch.device("cuda", place % count if device.index is None else device.index)
    if device.type not in ("cpu", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise ResourceError(f"--device {wanted}: not on this machine", hint="use --device auto")
    return device


def pick_precision(wanted: str, device: torch.device) -> Precision:
    """The format of `--precision`: `auto` is bf16 where the device is quick at it, else fp32."""
    if wanted in DTYPES:
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and _CPU_FLAGS & processor_flags() else "fp32"


def processor_flags(source: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor says it can do; nothing where the system does not tell."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def lower(model: nn.Module, precision: Precision) -> None:
    """Round the weights of matrix products once, in place, that autocast would round anew for every window."""
    if precision == "fp32":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.MultiheadAttention):
            for weight in module.parameters(recurse=False):
                weight.data = weight.data.to(DTYPES[precision])
