"""Resample maps from the resolution of a model back to the pixels of the scene, as a stream of strips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.geo.read.reader import CHUNK_PIXELS
from co2s_cli.geo.read.scene import Scene


@dataclass(frozen=True, slots=True)
class MapResampler:
    """Resamples maps on a resampled grid to the scene's own grid; both grids cover the same ground.

    Where the map is coarser, each pixel of the scene takes the value of the map pixel in which its centre lies. Where
    the map is finer, it takes the most frequent value of the map pixels whose centres lie in it (ties go to the lower
    value; `IGNORE` is chosen only if there is no other value), or their mean for rasters of amounts.
    """

    height: int
    """Rows of the map."""
    width: int
    """Columns of the map."""
    original_height: int
    """Rows of the scene's own grid."""
    original_width: int
    """Columns of the scene's own grid."""

    @classmethod
    def of(cls, scene: Scene) -> MapResampler:
        """The resampler for maps of `scene`."""
        return cls(*scene.grid.shape, *scene.original.shape)

    def rows(self, top: int, bottom: int) -> tuple[int, int]:
        """Rows of the map (first, past the last) that rows `top` … `bottom` - 1 of the scene need."""
        first, last = _bounds(self.height, self.original_height)
        return int(first[top]), int(last[bottom - 1])

    def strip(self, lines: NDArray[Any], first: int, top: int, bottom: int, *, mean: bool = False) -> NDArray[Any]:
        """(…, rows, columns) rows `top` … `bottom` - 1 of the scene.

        Args:
            lines: (…, h, w) rows of the map, which hold all that `rows` asks for.
            first: Row of the map with which `lines` begins.
            top: First row of the scene.
            bottom: Row of the scene after the last one.
            mean: Values are amounts and are averaged; `IGNORE` in uint8 arrays and NaN in others have no weight.
        """
        row_first, row_last = (bound[top:bottom] - first for bound in _bounds(self.height, self.original_height))
        col_first, col_last = _bounds(self.width, self.original_width)
        nearest = lines[..., row_first, :][..., :, col_first]
        if (row_last - row_first).max() == 1 and (col_last - col_first).max() == 1:
            return nearest
        reduce = _mean if mean else _mode
        return reduce(lines[..., row_first[0] : row_last[-1], :], row_first - row_first[0], col_first)

    def stream(
        self, strips: Iterable[tuple[int, NDArray[Any]]], *, mean: bool = False
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Turn strips of the map, in order and without gaps, into strips of the scene.

        A strip is its first row and an array (…, h, w). Memory holds one strip and the few rows that the next one still
        needs. Yielded strips have at most `CHUNK_PIXELS` pixels, because the scene may be far finer than the map.
        """
        rows = max(1, CHUNK_PIXELS // self.original_width)
        lines: NDArray[Any] | None = None
        top = 0
        for row, strip in strips:
            bottom = row + strip.shape[-2]
            kept = row - self._first_needed(top) if lines is not None else 0
            if lines is not None and kept > 0:
                lines = np.concatenate([lines[..., lines.shape[-2] - kept :, :], strip], axis=-2)
            else:
                lines = strip
            first, done = bottom - lines.shape[-2], self._done(bottom)
            for start in range(top, done, rows):
                yield start, self.strip(lines, first, start, min(start + rows, done), mean=mean)
            top = done

    def _first_needed(self, top: int) -> int:
        """First row of the map that row `top` of the scene needs; the map's height past the scene's last row."""
        return self.rows(top, top + 1)[0] if top < self.original_height else self.height

    def _done(self, rows: int) -> int:
        """Number of rows of the scene that the first `rows` rows of the map determine."""
        return int(np.searchsorted(_bounds(self.height, self.original_height)[1], rows, side="right"))


def _bounds(length: int, original: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(original) map pixels, first and past the last, for each of `original` scene pixels along one axis.

    `length` is the number of map pixels along the axis.
    """
    scene_pixel = np.arange(original, dtype=np.int64)
    if length <= original:
        first = ((2 * scene_pixel + 1) * length) // (2 * original)
        return first, first + 1
    # map pixel m has its centre in scene pixel s where s <= (m + 1/2) original / length < s + 1; integers keep it exact
    edges = -((-(2 * np.arange(original + 1, dtype=np.int64) * length - original)) // (2 * original))
    return edges[:-1], edges[1:]


def _mode(lines: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Most frequent value other than `IGNORE` in each of the boxes that begin at `rows` and `cols`."""
    shape = (*lines.shape[:-2], len(rows), len(cols))
    mode, mode_count = np.full(shape, IGNORE, lines.dtype), np.zeros(shape, np.int32)
    for value in np.unique(lines):
        if value == IGNORE:
            continue
        count = _sums((lines == value).astype(np.int32), rows, cols)
        is_more = count > mode_count
        mode[is_more], mode_count[is_more] = value, count[is_more]
    return mode


def _mean(lines: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Mean of the valid values in each of the boxes that begin at `rows` and `cols`, in the type of `lines`."""
    is_integer = np.issubdtype(lines.dtype, np.integer)
    valid = lines != IGNORE if is_integer else ~np.isnan(lines)
    count = _sums(valid.astype(np.float64), rows, cols)
    total = _sums(np.where(valid, lines, 0).astype(np.float64), rows, cols)
    mean = total / np.maximum(count, 1)
    filled = np.where(count > 0, np.rint(mean) if is_integer else mean, IGNORE if is_integer else np.nan)
    return filled.astype(lines.dtype)


def _sums(values: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Sums over the boxes that begin at `rows` and `cols` and end where the next box begins."""
    sums: NDArray[Any] = np.add.reduceat(np.add.reduceat(values, rows, axis=-2), cols, axis=-1)
    return sums
