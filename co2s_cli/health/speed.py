"""Measure the mapping speed of the demonstration model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from co2s_cli.config import load
from co2s_cli.config.mapping import MapConfig
from co2s_cli.health.finding import Finding

if TYPE_CHECKING:
    from co2s_cli.inference.model import LoadedModel

PROBE_SECONDS = 2.0
_SCENE_SIDE = 10_980
"""Side of a Sentinel-2 scene in pixels."""
_WINDOWS_PER_PIXEL = 1 / 0.75**2
"""Mean number of windows that contain a pixel, at an overlap of a quarter."""


def speed() -> Iterator[Finding]:
    """Pixels per second of the demonstration model, and the time for a Sentinel-2 scene that follows from it."""
    rate, device = pixels_per_second(PROBE_SECONDS)
    minutes = _SCENE_SIDE**2 * _WINDOWS_PER_PIXEL / rate / 60
    yield Finding(
        "speed",
        "ok",
        f"{rate / 1e6:.2g} million pixels a second on {device} by the demonstration model: "
        f"about {minutes:.0f} min for a scene of {_SCENE_SIDE:,} × {_SCENE_SIDE:,} pixels",
    )


def pixels_per_second(seconds: float) -> tuple[float, str]:
    """Pixels per second, and the device; measured for about `seconds`, after a first window that does not count."""
    from co2s_cli.inference.model import load_model, pick_device, pick_precision
    from co2s_cli.models.weights import default_path

    device = pick_device("auto")
    model = load_model(default_path(), load(MapConfig, None, {"scenes": ["-"]}), device, pick_precision("auto", device))
    _run(model)
    windows, start = 0, time.perf_counter()
    while windows == 0 or time.perf_counter() - start < seconds:
        _run(model)
        windows += 1
    return windows * model.manifest.tile**2 / (time.perf_counter() - start), str(device)


def _run(model: LoadedModel) -> None:
    """Run the model on one grey window, and wait for the device by copying a sum to the host."""
    import torch

    from co2s_cli.inference.model import DTYPES

    images = torch.full((1, len(model.manifest.bands), model.manifest.tile, model.manifest.tile), 0.5)
    dtype, reduced = DTYPES[model.precision], model.precision != "fp32"
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=dtype, enabled=reduced):
        for probabilities in model.members(images.to(model.device)).values():
            probabilities.sum().item()
