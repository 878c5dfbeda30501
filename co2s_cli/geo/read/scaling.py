"""Scale digital numbers to [0, 1], with ranges fitted once to the scene or stored with the model, never per tile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.undeclared import SAMPLE_SIZE, land_values

_CONSTANT = 1e-4
"""Standard deviation of a scaled band below which the band counts as constant."""


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
        """Margin beyond ranges that are percentiles, on each side, as a share of the width of the range."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """`(value - low) × gain + shift`, clamped to [0, 1]; a band with low = high becomes 0.5."""

    low: tuple[float, ...]
    """(bands) value that becomes 0."""
    high: tuple[float, ...]
    """(bands) value that becomes 1."""
    clamp: bool = True
    """Whether scaled values are clamped to [0, 1]."""

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(lo > hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError(f"need low <= high for each band, got {self.low} and {self.high}")

    @property
    def gain(self) -> tuple[float, ...]:
        """(bands) factor; 0 for a constant band."""
        return tuple(1 / (hi - lo) if hi > lo else 0.0 for lo, hi in zip(self.low, self.high, strict=True))

    @property
    def shift(self) -> tuple[float, ...]:
        """(bands) summand; 0.5 for a constant band, else 0."""
        return tuple(0.0 if hi > lo else 0.5 for lo, hi in zip(self.low, self.high, strict=True))

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(bands, h, w) scaled pixels: the reference for the same computation on the device."""
        low, gain, shift = (np.asarray(v, np.float32)[:, None, None] for v in (self.low, self.gain, self.shift))
        scaled = (pixels.astype(np.float32) - low) * gain + shift
        return np.clip(scaled, 0, 1) if self.clamp else scaled


def widest(scalings: Sequence[Scaling]) -> Scaling:
    """The scaling whose range in each band spans the ranges of all `scalings`."""
    low = tuple(min(values) for values in zip(*(item.low for item in scalings), strict=True))
    high = tuple(max(values) for values in zip(*(item.high for item in scalings), strict=True))
    return Scaling(low, high)


def training_scaling(scenes: Sequence[Scene], headroom: float) -> Scaling:
    """One scaling for training on `scenes`, all of the same bands and sample type: it spans `--scale auto` of each.

    Ranges that are percentiles are widened on both sides by `headroom` times their width: what is brighter or darker
    than the central 96 % of a scene may be a class of its own, which no network can tell apart once it is clamped.
    """
    measured = scenes[:1] if scenes[0].dtype == "uint8" else scenes
    return widest([_auto(scene, headroom) for scene in measured])


def scaling_for(scene: Scene, choice: str, model: StoredScaling) -> Scaling:
    """The scaling that `--scale` chooses for a scene whose bands are those of the model.

    - `model`: the ranges stored with the model.
    - `auto`: 0 … 255 for uint8; 0 … 1 for floats that all lie in it; else the 2nd to 98th percentile of each band over
      the whole scene but for a border, widened by the model's headroom.
    - `pA-B`: the percentiles A and B of each band.
    - `LO,HI`: this range for every band.
    - `none`: values are in [0, 1] already.
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
    """The ranges stored with the model, which hold for its sample type only."""
    if scene.dtype != model.dtype:
        raise InputError(
            f"{scene.source}: samples are {scene.dtype}, the model was trained on {model.dtype}",
            hint="add --scale auto (statistics of the scene) or --scale LO,HI (the values that become 0 and 1)",
        )
    return Scaling(tuple(model.low), tuple(model.high))


def _untouched(scene: Scene) -> Scaling:
    if scene.dtype != "float32":
        raise InputError(
            f"{scene.source}: --scale none needs float32 values in [0, 1], samples are {scene.dtype}",
            hint="use --scale auto or --scale LO,HI",
        )
    bands = len(scene.bands)
    return Scaling((0.0,) * bands, (1.0,) * bands, clamp=False)


def _auto(scene: Scene, headroom: float = 0.0) -> Scaling:
    """The scaling of `--scale auto`, as `scaling_for` describes it."""
    bands = len(scene.bands)
    if scene.dtype == "uint8":
        return Scaling((0.0,) * bands, (255.0,) * bands)
    values = _sample_values(scene)
    if scene.dtype == "float32" and values.min() >= 0 and values.max() <= 1:
        return Scaling((0.0,) * bands, (1.0,) * bands)
    percentiles = _between(values, 2, 98)
    margins = [headroom * (high - low) for low, high in zip(percentiles.low, percentiles.high, strict=True)]
    return Scaling(
        tuple(low - margin for low, margin in zip(percentiles.low, margins, strict=True)),
        tuple(high + margin for high, margin in zip(percentiles.high, margins, strict=True)),
    )


def _percentiles(scene: Scene, low: float, high: float) -> Scaling:
    if not 0 <= low < high <= 100:
        raise ConfigError(f"--scale p{low:g}-{high:g}: must be two percentiles in 0..100, the lower first")
    return _between(_sample_values(scene), low, high)


def _between(values: NDArray[Any], low: float, high: float) -> Scaling:
    """The scaling between two percentiles of each band of `values` (bands, n)."""
    bounds = np.percentile(values.astype(np.float64), (low, high), axis=1)
    return Scaling(tuple(map(float, bounds[0])), tuple(map(float, bounds[1])))


def band_statistics(scenes: Sequence[Scene], scaling: Scaling) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (bands) of scaled values, with equal weight for each scene; 1 for a constant band."""
    moments = [
        (scaled.mean(axis=1, dtype=np.float64), (scaled.astype(np.float64) ** 2).mean(axis=1))
        for scaled in (scaling.apply(_sample_values(scene)[:, :, None])[:, :, 0] for scene in scenes)
    ]
    mean, mean_square = (np.mean([pair[index] for pair in moments], axis=0) for index in range(2))
    std = np.sqrt(np.maximum(mean_square - mean**2, 0))
    std[std < _CONSTANT] = 1.0
    return tuple(float(value) for value in mean), tuple(float(value) for value in std)


def _fixed(choice: str, bands: int) -> Scaling:
    """The scaling of `--scale LO,HI`."""
    try:
        low, high = (float(part) for part in choice.split(","))
    except ValueError:
        raise ConfigError(f"--scale {choice}: must be model, auto, none, LO,HI or percentiles such as p2-98") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(f"--scale {choice}: must be two finite numbers, the lower first")
    return Scaling((low,) * bands, (high,) * bands)


def _sample_values(scene: Scene) -> NDArray[Any]:
    """(bands, n) valid pixels of the decimated scene, without a border that the file does not declare.

    Those of some window of the scene if decimation missed all valid ones.
    """
    patch = scene.overview(SAMPLE_SIZE)
    return land_values(patch) if patch.valid.any() else scene.first_valid()
