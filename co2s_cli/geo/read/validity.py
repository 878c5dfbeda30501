"""Which pixels of a raster are valid, by the file's own masks, nodata values, alpha, and NaN or infinite samples."""

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
"""States of a block of a sparse file: not looked up yet, not in the file, in the file."""


@dataclass(frozen=True, slots=True)
class RasterPart:
    """A window of an open dataset, read at the size `shape`, which may decimate it."""

    dataset: Any
    window: RasterioWindow
    shape: tuple[int, int]
    """Rows and columns that reads return."""

    def pixels(self, bands: Sequence[int]) -> NDArray[Any]:
        """(bands, h, w) raw samples."""
        return np.asarray(self.dataset.read(list(bands), window=self.window, out_shape=(len(bands), *self.shape)))

    def masks(self, bands: Sequence[int]) -> NDArray[np.uint8]:
        """(bands, h, w) GDAL's masks; 0 = invalid."""
        return np.asarray(self.dataset.read_masks(list(bands), window=self.window, out_shape=(len(bands), *self.shape)))


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules by which a pixel of a raster is valid, determined once when it is opened.

    As in rasterio's `dataset_mask()`, a mask of the whole raster (`.msk`, internal, alpha) decides if there is one;
    else a pixel is valid if any band has data. Unlike there, a fourth band is alpha only if the file says so, alpha
    counts also in a file with a nodata value, and a pixel that is NaN or infinite in a band in use is never valid.

    The `repr` is stored in the journal of a map, so that names here must not change.
    """

    whole_mask: bool
    """Whether the raster has one mask for all bands."""
    by_band: tuple[int, ...]
    """Numbers, from 1, of the bands whose nodata values decide; empty if something else decides."""
    nodata: float | None
    """Nodata value given by the user, which replaces the file's; None if none is given."""
    alpha: int | None
    """Number, from 1, of the alpha band; None if there is none."""
    declared: float | None = None
    """The nodata value that the file declares, for messages."""

    @classmethod
    def of(cls, dataset: Any, *, alpha: int | None, nodata: float | Literal["none"] | None) -> Rules:
        """The rules of an open dataset; `nodata` replaces the file's own nodata values, "none" drops them."""
        flags = dataset.mask_flag_enums
        whole_mask = MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]
        decided = nodata is not None or alpha is not None or whole_mask
        has_nodata = any(MaskFlags.nodata in band_flags for band_flags in flags)
        by_band = tuple(dataset.indexes) if not decided and has_nodata else ()
        user_nodata = nodata if isinstance(nodata, int | float) else None
        return cls(whole_mask, by_band, user_nodata, alpha, dataset.nodata)

    @property
    def absent_is_invalid(self) -> bool:
        """Whether the pixels of a block that a sparse file lacks are invalid; False if a mask of the raster decides."""
        return not self.whole_mask or self.alpha is not None

    def all_valid(self, dtype: np.dtype[Any]) -> bool:
        """Whether no pixel of the sample type `dtype` can be invalid, except in blocks that a sparse file lacks."""
        decided = self.whole_mask or self.by_band or self.nodata is not None or self.alpha is not None
        return not decided and not np.issubdtype(dtype, np.floating)

    def describe(self) -> str:
        """What makes a pixel invalid, as a phrase for messages."""
        value = self.nodata if self.nodata is not None else self.declared
        reasons = [
            (self.whole_mask, "a mask"),
            (self.alpha is not None, f"alpha in band {self.alpha}"),
            (self.nodata is not None or bool(self.by_band), "nodata" if value is None else f"nodata {value:g}"),
        ]
        return " and ".join(reason for holds, reason in reasons if holds) or "nothing"

    def hint(self) -> str | None:
        """What the user may try if no pixel is valid by these rules; None if there is nothing to try."""
        if self.by_band:
            return "if the file's nodata value is wrong, add --nodata none or --nodata V"
        return "leave --nodata out" if self.nodata is not None else None

    def valid(self, part: RasterPart, bands: tuple[int, ...], pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """(h, w) validity, True = valid, of `pixels` (bands, h, w), which were read from `part`."""
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
    """Which blocks a sparse GeoTIFF holds, looked up in its index without reading pixels.

    Files of other formats hold all of their blocks.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._height, self._width = dataset.block_shapes[0]
        same_blocks = len(set(dataset.block_shapes)) == 1
        self._indexed = dataset.driver == "GTiff" and same_blocks
        # band-interleaved files have an index for each band, others one for all bands
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
        """(rows, cols) True for pixels in blocks that the file holds; a single True if it holds all these blocks."""
        if not self._indexed:
            return np.True_
        top, left = int(rows[0]), int(cols[0])
        present = self._states(Window(top, left, int(rows[-1]) - top + 1, int(cols[-1]) - left + 1)) == _PRESENT
        if present.all():
            return np.True_
        blocks = np.ix_(rows // self._height - top // self._height, cols // self._width - left // self._width)
        pixels: NDArray[np.bool_] = present[blocks]
        return pixels

    def _states(self, window: Window) -> NDArray[np.uint8]:
        """States of the blocks of `window`, looked up where they are unknown yet."""
        top, left = window.row // self._height, window.col // self._width
        part = self._state[top : (window.bottom - 1) // self._height + 1, left : (window.right - 1) // self._width + 1]
        for row, col in zip(*np.nonzero(part == _UNKNOWN), strict=True):
            part[row, col] = _PRESENT if self._in_file(top + int(row), left + int(col)) else _ABSENT
        return part

    def _in_file(self, row: int, col: int) -> bool:
        """Whether the file holds a block in any of its bands."""
        return any(block_item(self._dataset, "OFFSET", row, col, band) for band in self._bands)


def block_item(dataset: Any, item: str, row: int, col: int, band: int) -> int:
    """`OFFSET` or `SIZE` (the value of `item`) in bytes of a block of a GeoTIFF; 0 if the file lacks the block."""
    return int(dataset.get_tag_item(f"BLOCK_{item}_{col}_{row}", "TIFF", bidx=band) or 0)


def _any_unmasked(part: RasterPart, bands: tuple[int, ...], decisive: tuple[int, ...]) -> NDArray[np.bool_]:
    """(h, w) True where a band of `decisive` has data; bands not in use are read only if those in use leave gaps."""
    valid: NDArray[np.bool_] = np.any(part.masks(bands) > 0, axis=0)
    others = [band for band in decisive if band not in bands]
    if others and not valid.all():
        valid |= (part.masks(others) > 0).any(axis=0)
    return valid


def _any_other(part: RasterPart, bands: tuple[int, ...], pixels: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """(h, w) True where any band, in use or not, has another value than `nodata`."""
    valid: NDArray[np.bool_] = np.any(_differs(pixels, nodata), axis=0)
    others = [band for band in part.dataset.indexes if band not in bands]
    if others and not valid.all():
        valid |= _differs(part.pixels(others), nodata).any(axis=0)
    return valid


def _differs(pixels: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """(bands, h, w) True where a sample differs from `nodata`; all differ if the sample type cannot hold that value."""
    differs: NDArray[np.bool_] = np.ones(pixels.shape, np.bool_)
    if np.issubdtype(pixels.dtype, np.floating):
        differs = ~np.isnan(pixels) if math.isnan(nodata) else np.not_equal(pixels, pixels.dtype.type(nodata))
    elif math.isfinite(nodata) and nodata == int(nodata) and _in_range(pixels.dtype, nodata):
        differs = np.not_equal(pixels, pixels.dtype.type(int(nodata)))
    return differs


def _in_range(dtype: np.dtype[Any], value: float) -> bool:
    """Whether the integer type `dtype` can hold `value`."""
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
