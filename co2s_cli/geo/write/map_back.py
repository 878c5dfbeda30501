"""Maps from the resolution of a model back to the pixels of the scene, as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.geo.read.reader import PIECE
from co2s_cli.geo.read.scene import Scene


@dataclass(frozen=True, slots=True)
class MapResampler:
    """From maps on the resampled grid to the scene's own grid; both cover the same ground.

    Each pixel of the scene takes the value of the map pixel that its centre lies in; where the map is finer, the
    most frequent of the map pixels whose centres lie in it (ties go to the lower value, `IGNORE` never counts
    against a class), or their mean for `fraction` rasters.
    """

    height: int
    """Rows of the map."""
    width: int
    """Columns of the map."""
    original_height: int
    original_width: int

    @classmethod
    def of(cls, scene: Scene) -> MapResampler:
        """The way back to the pixels of `scene` itself."""
        return cls(*scene.grid.shape, *scene.original.shape)

    def rows(self, top: int, bottom: int) -> tuple[int, int]:
        """First and past-the-last row of the map that rows `top` … `bottom` of the scene need."""
        first, last = _bounds(self.height, self.original_height)
        return int(first[top]), int(last[bottom - 1])

    def strip(self, lines: NDArray[Any], first: int, top: int, bottom: int, *, mean: bool = False) -> NDArray[Any]:
        """Rows `top` … `bottom` of the scene, (…, rows, columns), from map rows that begin at row `first`.

        `mean`: values are amounts and are averaged (`IGNORE` in uint8 arrays and NaN in others have no weight).
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
        """Strips (first row, array (…, h, w)) of the map, in order and without gaps, as strips of the scene.

        Holds one strip and the few rows that the next one still needs, and yields strips of at most `PIECE` pixels,
        because the scene may be finer than the map by far.
        """
        rows = max(1, PIECE // self.original_width)
        held: NDArray[Any] | None = None
        top = 0
        for row, strip in strips:
            bottom = row + strip.shape[-2]
            kept = row - self._first_needed(top) if held is not None else 0
            if held is not None and kept > 0:
                held = np.concatenate([held[..., held.shape[-2] - kept :, :], strip], axis=-2)
            else:
                held = strip
            first, done = bottom - held.shape[-2], self._done(bottom)
            for start in range(top, done, rows):
                yield start, self.strip(held, first, start, min(start + rows, done), mean=mean)
            top = done

    def _first_needed(self, top: int) -> int:
        """First map row that scene row `top` needs; the map's end past the last."""
        return self.rows(top, top + 1)[0] if top < self.original_height else self.height

    def _done(self, rows: int) -> int:
        """How many rows of the scene are determined by the first `rows` rows of the map."""
        return int(np.searchsorted(_bounds(self.height, self.original_height)[1], rows, side="right"))


def _bounds(length: int, original: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and past-the-last map pixel for each of `original` scene pixels along one axis."""
    at = np.arange(original, dtype=np.int64)
    if length <= original:
        first = ((2 * at + 1) * length) // (2 * original)
        return first, first + 1
    # map pixel m has its centre in scene pixel s where s <= (m + 1/2) original / length < s + 1; integers keep it exact
    edges = -((-(2 * np.arange(original + 1, dtype=np.int64) * length - original)) // (2 * original))
    return edges[:-1], edges[1:]


def _mode(lines: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    shape = (*lines.shape[:-2], len(rows), len(cols))
    best, most = np.full(shape, IGNORE, lines.dtype), np.zeros(shape, np.int32)
    for value in np.unique(lines):
        if value == IGNORE:
            continue
        count = _sums((lines == value).astype(np.int32), rows, cols)
        better = count > most
        best[better], most[better] = value, count[better]
    return best


def _mean(lines: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    whole = np.issubdtype(lines.dtype, np.integer)
    known = lines != IGNORE if whole else ~np.isnan(lines)
    count = _sums(known.astype(np.float64), rows, cols)
    total = _sums(np.where(known, lines, 0).astype(np.float64), rows, cols)
    mean = total / np.maximum(count, 1)
    filled = np.where(count > 0, np.rint(mean) if whole else mean, IGNORE if whole else np.nan)
    return filled.astype(lines.dtype)


def _sums(values: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """Sums over the boxes that begin at `rows` and `cols`."""
    sums: NDArray[Any] = np.add.reduceat(np.add.reduceat(values, rows, axis=-2), cols, axis=-1)
    return sums
