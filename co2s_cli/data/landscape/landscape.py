"""Any window of a scene, pixels and labels, from its seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape.look import Look, look
from co2s_cli.data.landscape.palette import CLASS_OF
from co2s_cli.data.landscape.plan import LandscapePlan
from co2s_cli.data.landscape.sensor import MARGIN, sense
from co2s_cli.data.landscape.surface import Frame, survey
from co2s_cli.tiling import Window

TILE = 512
"""The land is made in squares of this size at fixed places, so that no window can change a pixel."""
GROUND_RESOLUTION = 0.5
"""Metres that a pixel spans."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """A scene: `block` gives any window of it, the same for the same seed and place; the land goes on around it."""

    seed: int
    size: int = 2048
    """Width and height in pixels; it decides nothing but where a tilted scene ends."""
    bands: int = 3
    """3: red, green, blue; 4: near infrared as well."""
    dtype: str = "uint8"
    """uint8, stretched for the eye, or uint16, reflectance × 10,000."""
    tilt: bool = False
    """Whether the sensor saw a tilted square only; around it pixels are 0 and labels `IGNORE`."""

    def __post_init__(self) -> None:
        if self.bands not in (3, 4) or self.dtype not in ("uint8", "uint16"):
            raise ValueError(f"need 3 or 4 bands of uint8 or uint16, got {self.bands} of {self.dtype}")

    @property
    def look(self) -> Look:
        """Season, sun, air and the like of this scene."""
        return look(self.seed)

    def block(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Pixels (bands, h, w), 0 only where nothing was seen, and class ids (h, w) of `window`."""
        pixels = np.empty((self.bands, window.height, window.width), dtype=self.dtype)
        labels = np.empty((window.height, window.width), dtype=np.uint8)
        for i in range(window.row // TILE, (window.bottom - 1) // TILE + 1):
            for j in range(window.col // TILE, (window.right - 1) // TILE + 1):
                rows = slice(max(window.row, i * TILE), min(window.bottom, (i + 1) * TILE))
                cols = slice(max(window.col, j * TILE), min(window.right, (j + 1) * TILE))
                here = _moved(rows, window.row), _moved(cols, window.col)
                there = _moved(rows, i * TILE), _moved(cols, j * TILE)
                tile_pixels, tile_labels = self._tile(i, j)
                pixels[:, *here], labels[here] = tile_pixels[:, *there], tile_labels[there]
        if self.tilt:
            unseen = ~footprint(window, self.size, self.look.tilt)
            pixels[:, unseen], labels[unseen] = 0, IGNORE
        return pixels, labels

    def _tile(self, i: int, j: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        frame = Frame(i * TILE - MARGIN, j * TILE - MARGIN, TILE + 2 * MARGIN)
        seen = self.look
        surface = survey(LandscapePlan(self.seed, seen), frame)
        pixels = sense(surface, frame, seen, self.seed, bands=self.bands, dtype=self.dtype)
        return pixels, CLASS_OF.take(surface.material[MARGIN:-MARGIN, MARGIN:-MARGIN])


def footprint(window: Window, size: int, angle: float) -> NDArray[np.bool_]:
    """True (h, w) for the pixels of `window` inside the largest square, turned by `angle`, in a scene of `size`."""
    y = (np.arange(window.row, window.bottom) + 0.5 - size / 2)[:, None]
    x = np.arange(window.col, window.right) + 0.5 - size / 2
    cos, sin = np.cos(angle), np.sin(angle)
    half = size / 2 / (abs(cos) + abs(sin))
    inside: NDArray[np.bool_] = (np.abs(x * cos + y * sin) <= half) & (np.abs(y * cos - x * sin) <= half)
    return inside


def _moved(span: slice, origin: int) -> slice:
    return slice(span.start - origin, span.stop - origin)
