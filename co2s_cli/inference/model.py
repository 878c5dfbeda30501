"""Loading a model for inference: device, number format, test-time augmentation, compilation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from co2s_cli.config.mapping import MapConfig
from co2s_cli.errors import ConfigError, ResourceError
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
Tta = Literal["none", "flips", "d4"]
Members = Callable[[Tensor], Mapping[str, Tensor]]
"""Each student's probabilities (B, classes, h, w) by name, from images (B, bands, h, w)."""

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""A processor with either of these flags is fast at bfloat16."""

_VIEWS: dict[Tta, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}
"""Test-time views: number of quarter turns, and whether the columns are reversed before."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory on its device."""

    manifest: Manifest
    digest: str
    """Digest of the model file."""
    members: Members
    device: torch.device
    precision: Precision


def load_model(path: Path, settings: MapConfig, device: torch.device, precision: Precision) -> LoadedModel:
    """Read a model file and prepare it for inference on a device."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    pair = weights.load(path, device)
    pair.requires_grad_(False)
    cast_weights(pair, precision)
    if precision == "bf16" and device.type == "cpu":
        for student in pair.students.values():
            student.prepare(settings.tile or pair.manifest.tile)  # type: ignore[operator]
    members: Any = pair.members
    if settings.compile:
        members = torch.compile(members, dynamic=False)
    return LoadedModel(pair.manifest, pair.digest, averaged_over_views(members, settings.tta), device, precision)


@dataclass(slots=True)
class ModelFile:
    """A model file whose weights are read on first use, then kept."""

    path: Path
    manifest: Manifest
    _loaded: LoadedModel | None = None

    def load(self, settings: MapConfig, device: torch.device, precision: Precision) -> LoadedModel:
        """The model on a device in a precision."""
        if self._loaded is None or self._loaded.precision != precision:
            log.info("running on %s in %s", device, precision)
            self._loaded = load_model(self.path, settings, device, precision)
        return self._loaded


def averaged_over_views(members: Members, tta: Tta) -> Members:
    """A function like `members` that returns the mean over test-time views, each turned back, in a fixed order."""
    if tta == "none":
        return members

    def mean(images: Tensor) -> Mapping[str, Tensor]:
        total: dict[str, Tensor] = {}
        for turns, flip in _VIEWS[tta]:
            view = (images.flip(-1) if flip else images).rot90(turns, (-2, -1))
            for name, probabilities in members(view).items():
                turned_back = probabilities.rot90(-turns, (-2, -1))
                turned_back = turned_back.flip(-1) if flip else turned_back
                total[name] = total[name].add_(turned_back) if name in total else turned_back.clone()
        return {name: probabilities.div_(len(_VIEWS[tta])) for name, probabilities in total.items()}

    return mean


def pick_device(requested: str, *, worker: int = 0, workers: int = 1) -> torch.device:
    """The device of one worker process for a value of `--device`; `auto` is a GPU if there is one, else the CPU.

    Args:
        requested: auto, cpu, cuda, cuda:N or mps. With `cuda` and `auto` the workers take the GPUs in turn; with
            `cuda:N` worker w takes cuda:(N + w).
        worker: index of the process among those that share a scene.
        workers: number of these processes.

    Raises:
        ConfigError: no such kind of device.
        ResourceError: the machine has no such device, or fewer GPUs than workers.
    """
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise ConfigError(f"--device {requested}: wants auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        return _pick_cuda(device.index, worker=worker, workers=workers)
    if device.type not in ("cpu", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise ResourceError(f"--device {requested}: not on this machine", hint="use --device auto")
    return device


def _pick_cuda(first: int | None, *, worker: int, workers: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (first or 0) >= count:
        requested = "cuda" if first is None else f"cuda:{first}"
        raise ResourceError(f"--device {requested}: this machine has {count} CUDA devices", hint="use --device auto")
    if first is None:
        return torch.device("cuda", worker % count)
    if first + workers > count:
        raise ResourceError(
            f"--device cuda:{first} --workers {workers}: wants cuda:{first} to cuda:{first + workers - 1}, "
            f"this machine has {count} CUDA devices",
            hint="use fewer --workers, or --device cuda",
        )
    return torch.device("cuda", first + worker)


def pick_precision(requested: str, device: torch.device) -> Precision:
    """The number format for a value of `--precision`: `auto` is bf16 if the device is fast at it, else fp32."""
    if requested in DTYPES:
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and _FAST_BF16_FLAGS & processor_flags() else "fp32"


def processor_flags(source: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's flags in /proc/cpuinfo; empty on systems without this file."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def cast_weights(model: nn.Module, precision: Precision) -> None:
    """Cast the weights of matrix products to `precision`, in place: autocast would cast them again for every window."""
    if precision == "fp32":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.MultiheadAttention):
            for weight in module.parameters(recurse=False):
                weight.data = weight.data.to(DTYPES[precision])
