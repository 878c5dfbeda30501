"""Geometry of weak views, and boxes of CutMix; random numbers come from a generator that is passed in.

Images are float tensors (bands, h, w) in [0, 1]. Sizes and probabilities of views and boxes are the published ones.
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

from co2s_cli.classes import IGNORE
from co2s_cli.tiling import Window

BASE = 2048, 512
"""Long and short side in pixels into which the published scale rule fits an image, before the random factor."""

BOX_CHANCE = 0.5
"""Probability that a crop gets no CutMix box."""
BOX_AREA, BOX_RATIO = (0.02, 0.4), (0.3, 1 / 0.3)
"""Ranges of a CutMix box: area as a share of the crop, and height / width."""

ScaleRule = Literal["own", "fitted", "long"]
"""What the random factor multiplies: the image's own size, that size fitted into `BASE`, or the long side, in whole
pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Geometry of one weak view: the window of the image, its size after scaling, mirroring and turning."""

    window: Window
    """Window to read; it lies inside the image."""
    height: int
    """Rows of the window after scaling, at most the crop's."""
    width: int
    """Columns of the window after scaling, at most the crop's."""
    flip: bool
    """Whether the view is mirrored left to right."""
    flip_rows: bool = False
    """Whether the view is mirrored top to bottom."""
    turns: int = 0
    """Number of quarter turns, after mirroring."""


def scale_of(height: int, width: int, rule: ScaleRule, limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A random scale factor for an image of `height` × `width` pixels.

    It is uniform between `limits`; rule `fitted` multiplies it by the factor that fits the image into `BASE`, rule
    `long` rounds it so that the long side has whole pixels.
    """
    long, short = max(height, width), min(height, width)
    if rule == "long":
        return int(rng.integers(int(limits[0] * long), int(limits[1] * long) + 1)) / long
    ratio = float(rng.uniform(*limits))
    return min(BASE[0] * ratio / long, BASE[1] * ratio / short) if rule == "fitted" else ratio


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Random mirroring and turning of weak views, besides mirroring left to right, which is always on."""

    flip_rows: bool = False
    """Mirror half of the views top to bottom."""
    turn: bool = False
    """Turn views by 0 to 3 quarter turns."""


PUBLISHED_SYMMETRY = Symmetry()


def weak_geometry(
    height: int,
    width: int,
    *,
    crop: int,
    scale: float,
    rng: np.random.Generator,
    near: Window | None = None,
    centre: tuple[int, int] | None = None,
    symmetry: Symmetry = PUBLISHED_SYMMETRY,
) -> Geometry:
    """Geometry of a random crop of the image scaled by `scale`.

    Only the window that the crop shows is read and scaled, which equals scaling the whole image and cutting the crop.

    Args:
        height: rows of the image.
        width: columns of the image.
        crop: side of the crop in pixels.
        scale: factor of the image's size.
        rng: source of all random numbers.
        near: the crop contains a random pixel of this window.
        centre: row and column of the pixel at the crop's centre, unless the image ends too close to it.
        symmetry: allowed mirroring and turning.
    """
    around = centre or (((near.row, near.bottom), (near.col, near.right)) if near else (None, None))
    top, rows, out_height = _along(height, crop, scale, rng, around[0])
    left, cols, out_width = _along(width, crop, scale, rng, around[1])
    return Geometry(
        Window(top, left, rows, cols),
        out_height,
        out_width,
        bool(rng.random() < 0.5),
        symmetry.flip_rows and bool(rng.random() < 0.5),
        int(rng.integers(4)) if symmetry.turn else 0,
    )


def _along(
    length: int,
    crop: int,
    scale: float,
    rng: np.random.Generator,
    around: tuple[int, int] | int | None,
) -> tuple[int, int, int]:
    """First pixel, number of pixels, and number of pixels after scaling, of a crop along one axis.

    `around`: a range (first, last + 1) of which the crop contains a random pixel, or the pixel at the crop's centre.
    """
    span = min(length, max(1, round(crop / scale)))
    scaled_span = crop if span < length else min(crop, max(1, round(length * scale)))
    low, high = 0, length - span
    if isinstance(around, int):
        return max(low, min(high, around - span // 2)), span, scaled_span
    if around is not None:
        anchor = int(rng.integers(*around))
        low, high = max(low, min(high, anchor - span + 1)), max(low, min(high, anchor))
    return int(rng.integers(low, high + 1)), span, scaled_span


def view_image(pixels: Tensor, geometry: Geometry, crop: int) -> Tensor:
    """The crop (bands, crop, crop) of a window's pixels (bands, h, w).

    The pixels are scaled, padded with 0 on the right and below, then mirrored and turned.
    """
    size = (geometry.height, geometry.width)
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return _finish(pixels, geometry, crop, 0.0)


def view_mask(mask: NDArray[np.generic], geometry: Geometry, crop: int, fill: float) -> Tensor:
    """The same view of labels, weights or a mask (h, w), as (crop, crop): nearest neighbour, padded with `fill`."""
    rows = ((np.arange(geometry.height) + 0.5) * mask.shape[0] / geometry.height).astype(np.intp)
    cols = ((np.arange(geometry.width) + 0.5) * mask.shape[1] / geometry.width).astype(np.intp)
    # one axis after the other: copying whole rows takes a fraction of the time of picking single pixels
    return _finish(torch.from_numpy(mask.take(rows, axis=0).take(cols, axis=1)), geometry, crop, fill)


def _finish(values: Tensor, geometry: Geometry, crop: int, fill: float) -> Tensor:
    padded = F.pad(values, (0, crop - geometry.width, 0, crop - geometry.height), value=fill)
    axes = [axis for axis, flipped in ((-1, geometry.flip), (-2, geometry.flip_rows)) if flipped]
    mirrored = padded.flip(axes) if axes else padded
    return torch.rot90(mirrored, geometry.turns, (-2, -1)) if geometry.turns else mirrored


def labels_view(labels: NDArray[np.uint8], geometry: Geometry, crop: int) -> Tensor:
    """The same view of labels (h, w), as (crop, crop) uint8, padded with `IGNORE`."""
    return view_mask(labels, geometry, crop, IGNORE)


Box = tuple[int, int, int, int]
"""Row, column, height and width in pixels of a crop; all 0: no box."""


def cutmix_box(crop: int, rng: np.random.Generator) -> Box:
    """The box of a crop into which CutMix pastes another image; half of the crops get none.

    As published, the area is drawn once; only side ratio and position are drawn again until the box fits. The mean area
    of a box is 0.205 of the crop.
    """
    if rng.random() < BOX_CHANCE:
        return 0, 0, 0, 0
    area = rng.uniform(*BOX_AREA) * crop * crop
    while True:
        ratio = rng.uniform(*BOX_RATIO)
        width, height = int(math.sqrt(area / ratio)), int(math.sqrt(area * ratio))
        row, col = (int(value) for value in rng.integers(0, crop, 2))
        if row + height <= crop and col + width <= crop:
            return row, col, height, width
