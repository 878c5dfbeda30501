"""Pixels and labels of any window of a synthetic scene, computed from its seed alone."""

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
"""Scenes are computed in squares of this side at fixed positions, so that a pixel does not depend on the window."""
GROUND_RESOLUTION = 0.5
"""Metres per pixel."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """A synthetic scene; `block` computes any window of it. The landscape continues beyond the scene's edges."""

    seed: int
    size: int = 2048
    """Width and height in pixels; used only for the footprint of a tilted scene."""
    bands: int = 3
    """3: red, green, blue; 4: also near infrared."""
    dtype: str = "uint8"
    """uint8: stretched for display; uint16: reflectance × 10,000."""
    tilt: bool = False
    """Whether the footprint is a tilted square, outside of which pixels are 0 and labels `IGNORE`."""

    def __post_init__(self) -> None:
        if self.bands not in (3, 4) or self.dtype not in ("uint8", "uint16"):
            raise ValueError(f"need 3 or 4 bands of uint8 or uint16, got {self.bands} of {self.dtype}")

    @property
    def look(self) -> Look:
        """Season, sun, haze and other properties of the whole scene."""
        return look(self.seed)

    def block(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Pixels (bands, h, w), 0 only outside the footprint, and class ids (h, w) of `window`."""
        pixels = np.empty((self.bands, window.height, window.width), dtype=self.dtype)
        labels = np.empty((window.height, window.width), dtype=np.uint8)
        for i in range(window.row // TILE, (window.bottom - 1) // TILE + 1):
            for j in range(window.col // TILE, (window.right - 1) // TILE + 1):
                rows = slice(max(window.row, i * TILE), min(window.bottom, (i + 1) * TILE))
                cols = slice(max(window.col, j * TILE), min(window.right, (j + 1) * TILE))
                in_window = _moved(rows, window.row), _moved(cols, window.col)
                in_tile = _moved(rows, i * TILE), _moved(cols, j * TILE)
                tile_pixels, tile_labels = self._tile(i, j)
                pixels[:, *in_window], labels[in_window] = tile_pixels[:, *in_tile], tile_labels[in_tile]
        if self.tilt:
            outside = ~footprint(window, self.size, self.look.tilt)
            pixels[:, outside], labels[outside] = 0, IGNORE
        return pixels, labels

    def _tile(self, i: int, j: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Pixels (bands, TILE, TILE) and class ids (TILE, TILE) of the tile in row `i` and column `j` of tiles."""
        frame = Frame(i * TILE - MARGIN, j * TILE - MARGIN, TILE + 2 * MARGIN)
        scene_look = self.look
        surface = survey(LandscapePlan(self.seed, scene_look), frame)
        pixels = sense(surface, frame, scene_look, self.seed, bands=self.bands, dtype=self.dtype)
        return pixels, CLASS_OF.take(surface.material[MARGIN:-MARGIN, MARGIN:-MARGIN])


def footprint(window: Window, size: int, angle: float) -> NDArray[np.bool_]:
    """(h, w) True for pixels of `window` inside the footprint.

    The footprint is the largest square, turned by `angle` in radians, inside a scene of `size` pixels.
    """
    y = (np.arange(window.row, window.bottom) + 0.5 - size / 2)[:, None]
    x = np.arange(window.col, window.right) + 0.5 - size / 2
    cos, sin = np.cos(angle), np.sin(angle)
    half = size / 2 / (abs(cos) + abs(sin))
    inside: NDArray[np.bool_] = (np.abs(x * cos + y * sin) <= half) & (np.abs(y * cos - x * sin) <= half)
    return inside


def _moved(span: slice, origin: int) -> slice:
    """The slice relative to `origin`."""
    return slice(span.start - origin, span.stop - origin)
