"""Geometry of weak views and CutMix boxes; every draw is made by a generator that is passed in.

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

from co2s_cli.classes import IGNORE
from co2s_cli.tiling import Window

BASE = 2048, 512
"""Long and short side that the published scale rule fits an image into, before the ratio."""

BOX_CHANCE = 0.5
BOX_AREA, BOX_RATIO = (0.02, 0.4), (0.3, 1 / 0.3)

ScaleRule = Literal["own", "fitted", "long"]
"""What the ratio multiplies: the image's own size, the size fitted into `BASE`, or the long side in whole pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One weak view: which part of an image, at which size, mirrored or turned or not."""

    window: Window
    """Part of the image, wholly inside it."""
    height: int
    """Rows that the part becomes, at most the crop's."""
    width: int
    flip: bool
    """Mirrored left to right."""
    flip_rows: bool = False
    """Mirrored top to bottom."""
    turns: int = 0
    """Quarter turns."""


def scale_of(height: int, width: int, rule: ScaleRule, limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A random factor for an image's size, uniform between `limits` times what `rule` says."""
    long, short = max(height, width), min(height, width)
    if rule == "long":
        return int(rng.integers(int(limits[0] * long), int(limits[1] * long) + 1)) / long
    ratio = float(rng.uniform(*limits))
    return min(BASE[0] * ratio / long, BASE[1] * ratio / short) if rule == "fitted" else ratio


@dataclass(frozen=True, slots=True)
class Symmetry:
    """How weak views may be mirrored and turned; left to right always."""

    flip_rows: bool = False
    """Also top to bottom, in half of the cases."""
    turn: bool = False
    """Also by 0 to 3 quarter turns."""


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
    """A random crop of the image enlarged by `scale`, mirrored in half of the cases.

    Only the part that is seen is named: reading it and scaling it equals scaling everything and cutting. With `near`
    the crop holds a random pixel of that part; with `centre`, a row and a column, it lies around that pixel, as far as
    the image goes.
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
    """First pixel, pixels, and pixels after scaling of a crop along one axis.

    `around`: the crop holds a random pixel of this range (first, last + 1), or has this pixel at its centre.
    """
    taken = min(length, max(1, round(crop / scale)))
    out = crop if taken < length else min(crop, max(1, round(length * scale)))
    low, high = 0, length - taken
    if isinstance(around, int):
        return max(low, min(high, around - taken // 2)), taken, out
    if around is not None:
        anchor = int(rng.integers(*around))
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
    # one axis after the other: whole rows are copied, which takes a fraction of picking single pixels
    return _finish(torch.from_numpy(mask.take(rows, axis=0).take(cols, axis=1)), geometry, crop, fill)


def _finish(values: Tensor, geometry: Geometry, crop: int, fill: float) -> Tensor:
    padded = F.pad(values, (0, crop - geometry.width, 0, crop - geometry.height), value=fill)
    axes = [axis for axis, wanted in ((-1, geometry.flip), (-2, geometry.flip_rows)) if wanted]
    mirrored = padded.flip(axes) if axes else padded
    return torch.rot90(mirrored, geometry.turns, (-2, -1)) if geometry.turns else mirrored


def labels_view(labels: NDArray[np.uint8], geometry: Geometry, crop: int) -> Tensor:
    """Labels (crop, crop) uint8; padding is `IGNORE`."""
    return view_mask(labels, geometry, crop, IGNORE)


Box = tuple[int, int, int, int]
"""Row, column, height and width in pixels of a crop; all 0 = empty."""


def cutmix_box(crop: int, rng: np.random.Generator) -> Box:
    """Where in a crop another image is pasted: nowhere in half of the cases, else a box inside the crop.

    As published, the area is drawn once; only side ratio and position are drawn again until the box fits. Its mean is
    0.205 of the crop.
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
