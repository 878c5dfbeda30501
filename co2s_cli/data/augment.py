"""Weak and strong views and CutMix boxes; every draw is made by a generator that is passed in.

Images are float tensors (bands, h, w) in [0, 1]. Sizes and probabilities are the published ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import functional as tv

from co2s_cli.classes import IGNORE
from co2s_cli.tiling import Window

BASE = 2048, 512
"""Long and short side that the published scale rule fits an image into, before the ratio."""

JITTER_CHANCE, BOX_CHANCE = 0.8, 0.5
BLUR_RADIUS = 0.1, 2.0
BOX_AREA, BOX_RATIO = (0.02, 0.4), (0.3, 1 / 0.3)

ScaleRule = Literal["own", "fitted", "long"]
"""What the ratio multiplies: the image's own size, the size fitted into `BASE`, or the long side in whole pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One weak view: which part of an image, at which size, mirrored or not."""

    window: Window
    """Part of the image, wholly inside it."""
    height: int
    """Rows that the part becomes, at most the crop's."""
    width: int
    flip: bool


def scale_of(height: int, width: int, rule: ScaleRule, limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A random factor for an image's size, uniform between `limits` times what `rule` says."""
    long, short = max(height, width), min(height, width)
    if rule == "long":
        return int(rng.integers(int(limits[0] * long), int(limits[1] * long) + 1)) / long
    ratio = float(rng.uniform(*limits))
    return min(BASE[0] * ratio / long, BASE[1] * ratio / short) if rule == "fitted" else ratio


def weak_geometry(
    height: int, width: int, *, crop: int, scale: float, rng: np.random.Generator, near: Window | None = None
) -> Geometry:
    """A random crop of the image enlarged by `scale`, mirrored in half of the cases.

    Only the part that is seen is named: reading it and scaling it equals scaling everything and cutting. With `near`
    the crop holds a random pixel of that part.
    """
    top, rows, out_height = _along(height, crop, scale, rng, (near.row, near.bottom) if near else None)
    left, cols, out_width = _along(width, crop, scale, rng, (near.col, near.right) if near else None)
    return Geometry(Window(top, left, rows, cols), out_height, out_width, bool(rng.random() < 0.5))


def _along(
    length: int, crop: int, scale: float, rng: np.random.Generator, near: tuple[int, int] | None
) -> tuple[int, int, int]:
    """First pixel, pixels, and pixels after scaling of a crop along one axis."""
    taken = min(length, max(1, round(crop / scale)))
    out = crop if taken < length else min(crop, max(1, round(length * scale)))
    low, high = 0, length - taken
    if near is not None:
        anchor = int(rng.integers(*near))
        low, high = max(low, min(high, anchor - taken + 1)), max(low, min(high, anchor))
    return int(rng.integers(low, high + 1)), taken, out


def view_image(pixels: Tensor, geometry: Geometry, crop: int) -> Tensor:
    """The part's pixels (bands, h, w) as a crop (bands, crop, crop): scaled, padded right and below by 0, mirrored."""
    size = (geometry.height, geometry.width)
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return _finish(pixels, geometry, crop, 0.0)


def view_mask(mask: NDArray[np.generic], geometry: Geometry, crop: int, fill: float) -> Tensor:
    """The same view of labels or of a mask (h, w): nearest neighbour, padded with `fill`."""
    rows = ((np.arange(geometry.height) + 0.5) * mask.shape[0] / geometry.height).astype(np.intp)
    cols = ((np.arange(geometry.width) + 0.5) * mask.shape[1] / geometry.width).astype(np.intp)
    return _finish(torch.from_numpy(np.ascontiguousarray(mask[np.ix_(rows, cols)])), geometry, crop, fill)


def _finish(values: Tensor, geometry: Geometry, crop: int, fill: float) -> Tensor:
    padded = F.pad(values, (0, crop - geometry.width, 0, crop - geometry.height), value=fill)
    return padded.flip(-1) if geometry.flip else padded


def labels_view(labels: NDArray[np.uint8], geometry: Geometry, crop: int) -> Tensor:
    """Labels (crop, crop) as the loss wants them; padding is `IGNORE`."""
    return view_mask(labels, geometry, crop, IGNORE).long()


@dataclass(frozen=True, slots=True)
class Strength:
    """How far strong views may be from what was seen; as published if nothing is said."""

    jitter: float = 0.5
    """Largest relative change of brightness, contrast and saturation."""
    hue: float = 0.25
    """Largest turn of the hue, 0.5 being half of the circle."""
    gray: float = 0.2
    """Chance that a view loses its colours."""
    blur: float = 0.5
    """Chance that it is blurred."""


PUBLISHED = Strength()


@dataclass(frozen=True, slots=True)
class Strong:
    """One strong view: colours and sharpness, never geometry."""

    order: tuple[int, ...]
    """In which order brightness, contrast, saturation and hue change; empty = they do not."""
    factors: tuple[float, float, float, float]
    gray: bool
    radius: float
    """Standard deviation of the blur in pixels; 0 = none."""

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: Strength = PUBLISHED) -> Strong:
        """Draw one; the number of draws is always the same."""
        jitter, gray, blur = rng.random(3)
        order = tuple(int(index) for index in rng.permutation(4))
        scale = rng.uniform(1 - strength.jitter, 1 + strength.jitter, 3)
        hue, radius = float(rng.uniform(-strength.hue, strength.hue)), float(rng.uniform(*BLUR_RADIUS))
        return cls(
            order if jitter < JITTER_CHANCE else (),
            (float(scale[0]), float(scale[1]), float(scale[2]), hue),
            bool(gray < strength.gray),
            radius if blur < strength.blur else 0.0,
        )

    def apply(self, image: Tensor) -> Tensor:
        """The strong view of a weak one."""
        steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
        for index in self.order:
            image = steps[index](image, self.factors[index])
        if self.gray:
            image = tv.rgb_to_grayscale(image, num_output_channels=3)
        if self.radius:
            side = 2 * math.ceil(3 * self.radius) + 1
            side = min(side, 2 * (min(image.shape[-2:]) // 2) - 1)
            image = tv.gaussian_blur(image, [side, side], [self.radius, self.radius])
        return image


def cutmix_box(crop: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where (crop, crop) another image is pasted: nowhere in half of the cases, else one box inside the crop."""
    mask = np.zeros((crop, crop), np.bool_)
    if rng.random() < BOX_CHANCE:
        return mask
    while True:
        area, ratio = rng.uniform(*BOX_AREA) * crop * crop, rng.uniform(*BOX_RATIO)
        width, height = int(math.sqrt(area / ratio)), int(math.sqrt(area * ratio))
        row, col = (int(value) for value in rng.integers(0, crop, 2))
        if row + height <= crop and col + width <= crop:
            mask[row : row + height, col : col + width] = True
            return mask
