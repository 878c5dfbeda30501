"""Which pixels of a raster are valid: the file's own masks, a nodata value, alpha, and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterioWindow

from co2s_cli.tiling import Window

_UNKNOWN, _ABSENT, _PRESENT = 0, 1, 2
"""States of a block."""


@dataclass(frozen=True, slots=True)
class RasterPart:
    """A part of an open dataset, decimated where `shape` says so."""

    dataset: Any
    window: RasterioWindow
    shape: tuple[int, int]
    """Rows and columns that reads return."""

    def pixels(self, bands: Sequence[int]) -> NDArray[Any]:
        """Raw pixels (bands, h, w)."""
        return np.asarray(self.dataset.read(list(bands), window=self.window, out_shape=(len(bands), *self.shape)))

    def masks(self, bands: Sequence[int]) -> NDArray[np.uint8]:
        """GDAL's masks (bands, h, w); 0 = invalid."""
        return np.asarray(self.dataset.read_masks(list(bands), window=self.window, out_shape=(len(bands), *self.shape)))


@dataclass(frozen=True, slots=True)
class Rules:
    """How a raster tells its valid pixels, decided once when it is opened.

    As rasterio's `dataset_mask()` has it: a mask of the whole raster (`.msk`, internal, alpha) decides where there is
    one; else data in any band counts. Differently, a fourth band is alpha only where the file says so, alpha decides
    also beside a nodata value, and a pixel that is NaN or infinite in a band in use is never valid.
    """

    whole_mask: bool
    """The raster has one mask for all bands."""
    by_band: tuple[int, ...]
    """Bands whose nodata values decide, counted from 1; empty where something else does."""
    nodata: float | None
    """Value given by the user instead of the file's."""
    alpha: int | None
    declared: float | None = None
    """The file's own nodata value, for messages."""

    @classmethod
    def of(cls, dataset: Any, *, alpha: int | None, nodata: float | Literal["none"] | None) -> Rules:
        """The rules of an open dataset; `nodata` replaces the file's own values, "none" drops them."""
        flags = dataset.mask_flag_enums
        whole = MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]
        decided = nodata is not None or alpha is not None or whole
        by_band = tuple(dataset.indexes) if not decided and any(MaskFlags.nodata in some for some in flags) else ()
        given = nodata if isinstance(nodata, int | float) else None
        return cls(whole, by_band, given, alpha, dataset.nodata)

    @property
    def absent_is_invalid(self) -> bool:
        """Whether a block that a sparse file does not hold is without data: yes, unless a mask says otherwise."""
        return not self.whole_mask or self.alpha is not None

    def all_valid(self, dtype: np.dtype[Any]) -> bool:
        """Whether no pixel of that sample type can be invalid, but for blocks that are absent."""
        decided = self.whole_mask or self.by_band or self.nodata is not None or self.alpha is not None
        return not decided and not np.issubdtype(dtype, np.floating)

    def describe(self) -> str:
        """What makes a pixel invalid, in words."""
        value = self.nodata if self.nodata is not None else self.declared
        reasons = [
            (self.whole_mask, "a mask"),
            (self.alpha is not None, f"alpha in band {self.alpha}"),
            (self.nodata is not None or bool(self.by_band), "nodata" if value is None else f"nodata {value:g}"),
        ]
        return " and ".join(reason for holds, reason in reasons if holds) or "nothing"

    def hint(self) -> str | None:
        """What to try where these rules leave nothing."""
        if self.by_band:
            return "if the file's nodata value is wrong, add --nodata none or --nodata V"
        return "leave --nodata out" if self.nodata is not None else None

    def valid(self, part: RasterPart, bands: tuple[int, ...], pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Validity (h, w) of the pixels (bands, h, w) that were read from `part`; True = valid."""
        valid = np.ones(pixels.shape[1:], np.bool_)
        if self.whole_mask:
            valid &= part.masks([1])[0] > 0
        if self.alpha is not None:
            valid &= part.pixels([self.alpha])[0] > 0
        if self.nodata is not None:
            valid &= _any_other(part, bands, pixels, self.nodata)
        if self.by_band:
            valid &= _any_unmasked(part, bands, self.by_band)
        if np.issubdtype(pixels.dtype, np.floating):
            valid &= np.isfinite(pixels).all(axis=0)
        return valid


class StoredBlocks:
    """Which blocks a sparse GeoTIFF holds, asked of its index without reading pixels.

    Formats without such an index hold all of their blocks.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._height, self._width = dataset.block_shapes[0]
        same = len(set(dataset.block_shapes)) == 1
        self._indexed = dataset.driver == "GTiff" and same
        # band-interleaved files index the blocks of every band, the others share one index
        interleave = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE", "BAND").upper()
        self._bands = tuple(dataset.indexes) if interleave == "BAND" else (1,)
        rows, cols = -(-dataset.height // self._height), -(-dataset.width // self._width)
        self._state = np.zeros((rows, cols) if self._indexed else (0, 0), np.uint8)

    def any_present(self, window: Window) -> bool:
        """Whether the file holds any block of `window`, which lies inside the raster."""
        return not self._indexed or bool((self._states(window) == _PRESENT).any())

    def all_present(self, window: Window) -> bool:
        """Whether the file holds every block of `window`, which lies inside the raster."""
        return not self._indexed or bool((self._states(window) == _PRESENT).all())

    def present(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.bool_] | np.bool_:
        """Which pixels (rows, cols) lie in blocks that the file holds; a single True where all blocks around do."""
        if not self._indexed:
            return np.True_
        top, left = int(rows[0]), int(cols[0])
        present = self._states(Window(top, left, int(rows[-1]) - top + 1, int(cols[-1]) - left + 1)) == _PRESENT
        if present.all():
            return np.True_
        at = np.ix_(rows // self._height - top // self._height, cols // self._width - left // self._width)
        pixels: NDArray[np.bool_] = present[at]
        return pixels

    def _states(self, window: Window) -> NDArray[np.uint8]:
        """The state of the blocks of `window`."""
        top, left = window.row // self._height, window.col // self._width
        part = self._state[top : (window.bottom - 1) // self._height + 1, left : (window.right - 1) // self._width + 1]
        for row, col in zip(*np.nonzero(part == _UNKNOWN), strict=True):
            part[row, col] = _PRESENT if self._holds(top + int(row), left + int(col)) else _ABSENT
        return part

    def _holds(self, row: int, col: int) -> bool:
        return any(block_item(self._dataset, "OFFSET", row, col, band) for band in self._bands)


def block_item(dataset: Any, item: str, row: int, col: int, band: int) -> int:
    """`OFFSET` or `SIZE` in bytes of a block of a GeoTIFF; 0 where the file does not hold it."""
    return int(dataset.get_tag_item(f"BLOCK_{item}_{col}_{row}", "TIFF", bidx=band) or 0)


def _any_unmasked(part: RasterPart, bands: tuple[int, ...], decisive: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where any band has data; the bands that are not in use are read only where those in use leave a doubt."""
    valid: NDArray[np.bool_] = np.any(part.masks(bands) > 0, axis=0)
    others = [band for band in decisive if band not in bands]
    if others and not valid.all():
        valid |= (part.masks(others) > 0).any(axis=0)
    return valid


def _any_other(part: RasterPart, bands: tuple[int, ...], pixels: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where any band, in use or not, holds something else than `nodata`."""
    valid: NDArray[np.bool_] = np.any(_differs(pixels, nodata), axis=0)
    others = [band for band in part.dataset.indexes if band not in bands]
    if others and not valid.all():
        valid |= _differs(part.pixels(others), nodata).any(axis=0)
    return valid


def _differs(pixels: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Pixels that are not `nodata`; a value that the sample type cannot hold equals none of them."""
    differs: NDArray[np.bool_] = np.ones(pixels.shape, np.bool_)
    if np.issubdtype(pixels.dtype, np.floating):
        differs = ~np.isnan(pixels) if math.isnan(nodata) else np.not_equal(pixels, pixels.dtype.type(nodata))
    elif math.isfinite(nodata) and nodata == int(nodata) and _holds(pixels.dtype, nodata):
        differs = np.not_equal(pixels, pixels.dtype.type(int(nodata)))
    return differs


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
