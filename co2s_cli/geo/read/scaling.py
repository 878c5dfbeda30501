"""Digital numbers to [0, 1]: fitted once on the scene or stored with the model, never per tile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scene import Scene

SAMPLE_SIZE = 1024
"""Longer side, in pixels, of the decimated scene that statistics are taken from."""


_CONSTANT = 1e-4
"""A band that spreads by less than this is taken as constant."""


class StoredScaling(Protocol):
    """The scaling stored with a model: the sample type it belongs to, and one range per band."""

    @property
    def dtype(self) -> str:
        """Sample type of the imagery that the ranges are for."""

    @property
    def low(self) -> tuple[float, ...]:
        """Value that becomes 0, by band."""

    @property
    def high(self) -> tuple[float, ...]:
        """Value that becomes 1, by band."""

    @property
    def headroom(self) -> float:
        """How far ranges that are percentiles reach beyond these, in parts of what lies between."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """`(value - low) × gain + shift`, clamped to [0, 1]; a band whose range is empty becomes 0.5."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    clamp: bool = True
    """Whether values outside the range are cut off."""

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(lo > hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"need low <= high for each band, got {self.low} and {self.high}")

    @property
    def gain(self) -> tuple[float, ...]:
        """Factor by band; 0 for a constant band."""
        return tuple(1 / (hi - lo) if hi > lo else 0.0 for lo, hi in zip(self.low, self.high, strict=True))

    @property
    def shift(self) -> tuple[float, ...]:
        """Summand by band; 0.5 for a constant band, else 0."""
        return tuple(0.0 if hi > lo else 0.5 for lo, hi in zip(self.low, self.high, strict=True))

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Pixels (bands, h, w) in [0, 1]: the reference for what runs on the device."""
        low, gain, shift = (np.asarray(v, np.float32)[:, None, None] for v in (self.low, self.gain, self.shift))
        scaled = (pixels.astype(np.float32) - low) * gain + shift
        return np.clip(scaled, 0, 1) if self.clamp else scaled


def widest(found: Sequence[Scaling]) -> Scaling:
    """One scaling that cuts off nothing that one of `found`, of the same bands, does not."""
    low = tuple(min(values) for values in zip(*(item.low for item in found), strict=True))
    high = tuple(max(values) for values in zip(*(item.high for item in found), strict=True))
    return Scaling(low, high)


def training_scaling(scenes: Sequence[Scene], headroom: float) -> Scaling:
    """One scaling for all `scenes`, of the same bands and sample type: the widest of what `--scale auto` takes of each.

    Ranges that are percentiles are widened on both sides by `headroom` times their width: what is brighter or darker
    than 96 % of a scene may be a class of its own, which a network cannot tell apart once it is cut off.
    """
    looked_at = scenes[:1] if scenes[0].dtype == "uint8" else scenes
    return widest([_auto(scene, headroom) for scene in looked_at])


def scaling_for(scene: Scene, choice: str, model: StoredScaling) -> Scaling:
    """The scaling of `--scale choice` for a scene whose bands are the model's.

    `model`: the model's own ranges. `auto`: 0 … 255 for uint8, 0 … 1 for floats that keep to it, else the 2nd to
    98th percentile of each band over the whole scene, and the model's headroom beyond them. `pA-B`: those
    percentiles. `LO,HI`: the same range for every band. `none`: the values are in [0, 1] already.
    """
    percentiles = re.fullmatch(r"p(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", choice)
    if choice == "model":
        return _of_model(scene, model)
    if choice == "none":
        return _untouched(scene)
    if choice == "auto":
        return _auto(scene, model.headroom)
    if percentiles:
        return _percentiles(scene, float(percentiles[1]), float(percentiles[2]))
    return _fixed(choice, len(scene.bands))


def _of_model(scene: Scene, model: StoredScaling) -> Scaling:
    if scene.dtype != model.dtype:
        raise InputError(
            f"{scene.source}: samples are {scene.dtype}, the model was trained on {model.dtype}",
            hint="add --scale auto (statistics of the scene) or --scale LO,HI (the range that means 0 to 1)",
        )
    return Scaling(tuple(model.low), tuple(model.high))


def _untouched(scene: Scene) -> Scaling:
    if scene.dtype != "float32":
        raise InputError(
            f"{scene.source}: --scale none wants values in [0, 1] already, samples are {scene.dtype}",
            hint="use --scale auto or --scale LO,HI",
        )
    bands = len(scene.bands)
    return Scaling((0.0,) * bands, (1.0,) * bands, clamp=False)


def _auto(scene: Scene, headroom: float = 0.0) -> Scaling:
    bands = len(scene.bands)
    if scene.dtype == "uint8":
        return Scaling((0.0,) * bands, (255.0,) * bands)
    values = _values(scene)
    if scene.dtype == "float32" and values.min() >= 0 and values.max() <= 1:
        return Scaling((0.0,) * bands, (1.0,) * bands)
    found = _between(values, 2, 98)
    room = [headroom * (high - low) for low, high in zip(found.low, found.high, strict=True)]
    return Scaling(
        tuple(low - more for low, more in zip(found.low, room, strict=True)),
        tuple(high + more for high, more in zip(found.high, room, strict=True)),
    )


def _percentiles(scene: Scene, low: float, high: float) -> Scaling:
    if not 0 <= low < high <= 100:
        raise ConfigError(f"--scale p{low:g}-{high:g}: wants two percentiles in 0..100, the lower first")
    return _between(_values(scene), low, high)


def _between(values: NDArray[Any], low: float, high: float) -> Scaling:
    bounds = np.percentile(values.astype(np.float64), (low, high), axis=1)
    return Scaling(tuple(map(float, bounds[0])), tuple(map(float, bounds[1])))


def band_statistics(scenes: Sequence[Scene], scaling: Scaling) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each scaled band, each scene alike; the latter is 1 for a constant band."""
    sums = [
        (scaled.mean(axis=1, dtype=np.float64), (scaled.astype(np.float64) ** 2).mean(axis=1))
        for scaled in (scaling.apply(_values(scene)[:, :, None])[:, :, 0] for scene in scenes)
    ]
    mean, square = (np.mean([pair[index] for pair in sums], axis=0) for index in range(2))
    std = np.sqrt(np.maximum(square - mean**2, 0))
    std[std < _CONSTANT] = 1.0
    return tuple(float(value) for value in mean), tuple(float(value) for value in std)


def _fixed(choice: str, bands: int) -> Scaling:
    try:
        low, high = (float(part) for part in choice.split(","))
    except ValueError:
        raise ConfigError(f"--scale {choice}: wants model, auto, none, LO,HI or percentiles such as p2-98") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(f"--scale {choice}: wants two finite numbers, the lower first")
    return Scaling((low,) * bands, (high,) * bands)


def _values(scene: Scene) -> NDArray[Any]:
    """Valid pixels (bands, n) of the decimated scene; of the whole scene where decimation missed them all."""
    patch = scene.overview(SAMPLE_SIZE)
    return patch.pixels[:, patch.valid] if patch.valid.any() else scene.first_valid()
