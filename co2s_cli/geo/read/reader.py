"""Windows of a scene as arrays: never boundless, invalid pixels filled, scene edges reflected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.fill import fill_invalid, reflected
from co2s_cli.geo.read.raw import PIECE, Pixels, Raw
from co2s_cli.geo.read.resample import resample, source_span
from co2s_cli.tiling import Window


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a window."""

    pixels: NDArray[Any]
    """(bands, h, w) in the scene's sample type; invalid pixels hold values of valid ones nearby."""
    valid: NDArray[np.bool_]
    """(h, w), True = valid."""


class Reader:
    """Reads windows of one scene through one GDAL handle; for one thread."""

    def __init__(self, raw: Raw, grid: Grid) -> None:
        self.raw = raw
        """The raster's own pixels."""
        self.grid = grid
        """The pixels that are handed out."""

    def read(self, window: Window) -> Patch:
        """The pixels of `window`, which may reach over the scene's edge.

        Beyond the edge pixels are reflected and invalid. Invalid pixels get the values of the nearest valid pixel of
        their row, or of the nearest row that has one; zeros where the window has no valid pixel at all.
        """
        rows = reflected(window.row, window.bottom, self.grid.height)
        cols = reflected(window.col, window.right, self.grid.width)
        inner = _around(rows, cols)
        patch = filled(self._inside(inner))
        if inner == window:
            return patch
        picked = np.ix_(rows - inner.row, cols - inner.col)
        valid = patch.valid[picked]
        valid &= _within(window.row, window.bottom, self.grid.height)[:, None]
        valid &= _within(window.col, window.right, self.grid.width)
        return Patch(np.ascontiguousarray(patch.pixels[:, picked[0], picked[1]]), valid)

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels (h, w) of `window`, which lies inside the scene, are valid; True = valid."""
        return self._inside(window)[1] if self._resamples else self.raw.valid(window)

    def has_data(self, window: Window) -> bool:
        """False where surely no pixel of `window` is valid: off the scene, or in blocks that a sparse file lacks."""
        top, left = max(0, window.row), max(0, window.col)
        bottom, right = min(self.grid.height, window.bottom), min(self.grid.width, window.right)
        if top >= bottom or left >= right:
            return False
        return self.raw.may_hold(self._source(Window(top, left, bottom - top, right - left)))

    @property
    def _resamples(self) -> bool:
        return self.grid.shape != self.raw.shape

    def _inside(self, window: Window) -> Pixels:
        """Pixels and validity of a window inside the scene."""
        if not self._resamples:
            return self.raw.read(window)
        source = self._source(window)
        rows = max(1, PIECE * window.height // (source.height * source.width))
        strips = [
            self._resampled(Window(row, window.col, min(rows, window.bottom - row), window.width))
            for row in range(window.row, window.bottom, rows)
        ]
        return np.concatenate([s[0] for s in strips], axis=1), np.concatenate([s[1] for s in strips], axis=0)

    def _resampled(self, window: Window) -> Pixels:
        source = self._source(window)
        pixels, valid = self.raw.read(source)
        high, wide = self.raw.shape[0] / self.grid.height, self.raw.shape[1] / self.grid.width
        left, right = window.col * wide - source.col, window.right * wide - source.col
        top, bottom = window.row * high - source.row, window.bottom * high - source.row
        return resample(pixels, valid, (left, top, right, bottom), (window.height, window.width))

    def _source(self, window: Window) -> Window:
        """The part of the raster that a window inside the scene is made of."""
        top, bottom = source_span(window.row, window.bottom, self.grid.height, self.raw.shape[0])
        left, right = source_span(window.col, window.right, self.grid.width, self.raw.shape[1])
        return Window(top, left, bottom - top, right - left)


def filled(pixels: Pixels) -> Patch:
    """A patch whose invalid pixels hold values of valid ones."""
    samples, valid = pixels
    return Patch(fill_invalid(samples, valid), valid)


def _within(start: int, stop: int, length: int) -> NDArray[np.bool_]:
    """Which positions `start` … `stop` lie on an axis of `length` pixels."""
    at = np.arange(start, stop)
    return (at >= 0) & (at < length)


def _around(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Window:
    """The smallest window that holds all of the rows and columns."""
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
