"""Which blocks a sparse GeoTIFF really holds, asked of the file's index without reading pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.tiling import Window

_UNKNOWN, _ABSENT, _PRESENT = 0, 1, 2


class Blocks:
    """The blocks of an open dataset; formats without such an index hold all of theirs."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._height, self._width = dataset.block_shapes[0]
        same = len(set(dataset.block_shapes)) == 1
        self._indexed = dataset.driver == "GTiff" and same
        # band-interleaved files index the blocks of every band, the others share one index
        interleave = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE", "BAND").upper()
        self._bands = tuple(dataset.indexes) if interleave == "BAND" else (1,)
        rows, cols = -(-dataset.height // self._height), -(-dataset.width // self._width)
        self._known = np.zeros((rows, cols) if self._indexed else (0, 0), np.uint8)

    def any_present(self, window: Window) -> bool:
        """Whether the file holds any block of `window`, which lies inside the raster."""
        return not self._indexed or bool((self._look(window) == _PRESENT).any())

    def all_present(self, window: Window) -> bool:
        """Whether the file holds every block of `window`, which lies inside the raster."""
        return not self._indexed or bool((self._look(window) == _PRESENT).all())

    def present(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.bool_] | np.bool_:
        """Which pixels (rows, cols) lie in blocks that the file holds; a single True where all blocks around do."""
        if not self._indexed:
            return np.True_
        top, left = int(rows[0]), int(cols[0])
        found = self._look(Window(top, left, int(rows[-1]) - top + 1, int(cols[-1]) - left + 1)) == _PRESENT
        if found.all():
            return np.True_
        at = np.ix_(rows // self._height - top // self._height, cols // self._width - left // self._width)
        pixels: NDArray[np.bool_] = found[at]
        return pixels

    def _look(self, window: Window) -> NDArray[np.uint8]:
        """The state of the blocks of `window`."""
        top, left = window.row // self._height, window.col // self._width
        part = self._known[top : (window.bottom - 1) // self._height + 1, left : (window.right - 1) // self._width + 1]
        for row, col in zip(*np.nonzero(part == _UNKNOWN), strict=True):
            part[row, col] = _PRESENT if self._holds(top + int(row), left + int(col)) else _ABSENT
        return part

    def _holds(self, row: int, col: int) -> bool:
        return any(block_item(self._dataset, "OFFSET", row, col, band) for band in self._bands)


def block_item(dataset: Any, item: str, row: int, col: int, band: int) -> int:
    """`OFFSET` or `SIZE` in bytes of a block of a GeoTIFF; 0 where the file does not hold it."""
    return int(dataset.get_tag_item(f"BLOCK_{item}_{col}_{row}", "TIFF", bidx=band) or 0)
