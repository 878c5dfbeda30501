"""Merge small regions of a class raster into their largest neighbours: GDAL's sieve over plain arrays on disk.

GDAL keeps a row of pixels and a few numbers for each region in memory, so that a raster of any width and height can be
sieved. A small region joins its largest 4-connected neighbour, directly or through other small regions; nodata is no
neighbour. A small region stays only if nodata alone surrounds it, or surrounds a group of small regions that it is in.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.features import sieve as gdal_sieve

from co2s_cli.classes import IGNORE
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons.class_raster import CACHE_BYTES, ByteRasterReader, ClassRaster
from co2s_cli.geo.polygons.regions import find

_ARRAYS = 3
"""Number of arrays on disk, one byte a pixel each: classes, mask, sieved classes."""

_MAX_PASSES = 8
"""Most runs of GDAL's sieve. More than one are needed: two small regions that are each other's largest neighbour are
merged only after a pass has changed their sizes."""

_CHUNK_PIXELS = 1_000_000
"""Pixels that are read or compared at a time."""

_MAX_OVERLAP_ROWS = 256
"""Largest minimum size in pixels for which small regions are searched for, in chunks that overlap by as many rows;
beyond it one more pass of the sieve costs less than the search."""

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SievedRaster:
    """A class raster without small regions, as a raw file with an ENVI header; its grid is that of its source."""

    path: Path
    merged_pixels: int
    """Number of pixels whose class has changed."""
    highest: int
    """Highest class id that occurs; 0 where no class occurs."""


def sieve_to_file(
    raster: ClassRaster, min_pixels: int, folder: Path, *, advance: Callable[[int], None]
) -> SievedRaster:
    """Write the raster without regions of fewer than `min_pixels` pixels.

    Args:
        raster: The class raster to sieve.
        min_pixels: Regions of fewer pixels join their largest neighbour.
        folder: Folder with room for three bytes a pixel; the result keeps one byte a pixel.
        advance: Called with the number of rows read since the last call.

    Raises:
        InputError: the raster cannot be read.
        OutputError: the folder has too little room.
    """
    shape = raster.grid.shape
    _check_room(folder, _ARRAYS * shape[0] * shape[1])
    path = folder / "sieved"
    sieved = _new_array(path, shape)
    classes, mask = (_new_array(folder / name, shape) for name in ("classes", "mask"))
    try:
        _read(raster.source, classes, mask, advance)
        _sieve(classes, sieved, None if mask.all() else mask, min_pixels)  # GDAL is faster without a mask
        merged_pixels = sum(int(np.count_nonzero(sieved[rows] != classes[rows])) for rows in _chunks(shape))
    finally:
        (folder / "classes").unlink()
        (folder / "mask").unlink()
    highest = max(int(np.max(sieved[rows], where=sieved[rows] != IGNORE, initial=0)) for rows in _chunks(shape))
    _write_header(path, shape)
    return SievedRaster(path, merged_pixels, highest)


def _read(source: str, classes: ByteArray, mask: ByteArray, advance: Callable[[int], None]) -> None:
    """Fill `classes` (rows, columns) from the raster, and `mask` with 1 where there is a class."""
    with environment(CACHE_BYTES), reading(source) as dataset:
        reader = ByteRasterReader(dataset, source)
        for rows in _chunks(classes.shape):
            classes[rows] = reader.strip(rows.start, rows.stop)
            np.not_equal(classes[rows], IGNORE, out=mask[rows].view(bool))
            advance(rows.stop - rows.start)


def _sieve(classes: ByteArray, sieved: ByteArray, mask: ByteArray | None, min_pixels: int) -> None:
    """Sieve `classes` into `sieved`; repeat on `sieved` while small regions are left and a pass changes pixels."""
    gdal_sieve(classes, min_pixels, out=sieved, mask=mask, connectivity=4)
    previous_crc = -1
    for _ in range(_MAX_PASSES - 1):
        crc = zlib.crc32(sieved.data)
        if crc == previous_crc or not _may_hold_small(sieved, min_pixels):
            return
        previous_crc = crc
        gdal_sieve(sieved, min_pixels, out=sieved, mask=mask, connectivity=4)


def _may_hold_small(classes: ByteArray, min_pixels: int) -> bool:
    """False if certainly no region of fewer than `min_pixels` pixels is left; takes half the time of a pass."""
    if min_pixels > _MAX_OVERLAP_ROWS:
        return True
    height = len(classes)
    for rows in _chunks((height, classes.shape[1])):
        # chunks overlap by the greatest height of a small region, so that each lies wholly within one; a row of nodata
        # is added at the top and the bottom of the raster, since `_has_small` skips regions in the first and last row
        top, bottom = max(0, rows.start - min_pixels), min(height, rows.stop + 1)
        pad_rows = (int(top == 0), int(bottom == height))
        if _has_small(np.pad(classes[top:bottom], (pad_rows, (0, 0)), constant_values=IGNORE), min_pixels):
            return True
    return False


def _has_small(rows: ByteArray, min_pixels: int) -> bool:
    """Whether a class has a region of fewer than `min_pixels` pixels that touches neither the first nor last row."""
    regions = find(rows)
    sizes = np.bincount(regions.label, np.diff(regions.starts, append=rows.size), regions.count)
    is_small = (sizes < min_pixels) & (regions.values != IGNORE)
    is_small[regions.in_row(0)] = is_small[regions.in_row(len(rows) - 1)] = False
    return bool(is_small.any())


def _chunks(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of consecutive rows, each of about `_CHUNK_PIXELS` pixels."""
    step = max(1, _CHUNK_PIXELS // shape[1])
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))


def _new_array(path: Path, shape: tuple[int, int]) -> ByteArray:
    """A memory-mapped array of bytes in a new file, whose blocks on disk are reserved where the system can."""
    try:
        with path.open("wb") as file:
            # a write to a mapped file with holes kills the process with SIGBUS when the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1])
            else:
                file.truncate(shape[0] * shape[1])
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise OutputError(f"{path.parent}: could not be written ({error.strerror})") from error


def _write_header(path: Path, shape: tuple[int, int]) -> None:
    """Write the ENVI header with which GDAL reads a raw file of bytes."""
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {shape[1]}\nlines = {shape[0]}\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
        f"data type = 1\ninterleave = bsq\nbyte order = 0\ndata ignore value = {IGNORE}\n"
    )


def _check_room(folder: Path, needed: int) -> None:
    """Refuse a folder on a disk with fewer than `needed` free bytes."""
    stats = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if stats is not None and stats.f_bavail * stats.f_frsize < needed:
        raise OutputError(
            f"{folder.parent}: {show_bytes(stats.f_bavail * stats.f_frsize)} are free, "
            f"{show_bytes(needed)} are needed to merge small regions",
            hint="free disk space, write to another disk, or switch merging off with --min-area 0",
        )
