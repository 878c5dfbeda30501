"""A short measurement: how many pixels a second the demonstration model labels."""

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
_SCENE = 10_980
"""Side of a Sentinel-2 scene in pixels."""
_SEEN = 1 / 0.75**2
"""How often a pixel is seen where windows share a quarter with their neighbours."""


def speed() -> Iterator[Finding]:
    """Pixels a second of the model that predict takes by default, and what that means for a Sentinel-2 scene."""
    rate, device = pixels_per_second(PROBE_SECONDS)
    minutes = _SCENE**2 * _SEEN / rate / 60
    yield Finding(
        "speed",
        "ok",
        f"{rate / 1e6:.2g} million pixels a second on {device} by the demonstration model: "
        f"about {minutes:.0f} min for a scene of {_SCENE:,} × {_SCENE:,} pixels",
    )


def pixels_per_second(seconds: float) -> tuple[float, str]:
    """The rate over at least one window and about `seconds`, after one window that does not count; and the device."""
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
    """One window of grey through the model; back on the host, so that the device has finished it."""
    import torch

    from co2s_cli.inference.model import DTYPES

    images = torch.full((1, len(model.manifest.bands), model.manifest.tile, model.manifest.tile), 0.5)
    dtype, lowered = DTYPES[model.precision], model.precision != "fp32"
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=dtype, enabled=lowered):
        for probabilities in model.members(images.to(model.device)).values():
            probabilities.sum().item()
