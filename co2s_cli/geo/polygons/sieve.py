"""Merge small regions of a class raster into their largest neighbours: GDAL's sieve over plain arrays on disk.

GDAL keeps a row of pixels and a few numbers for each region in memory, so that a raster of any width and height can be
sieved. A small region joins its largest 4-connected neighbour, directly or through other small ones; nodata is no
neighbour. A small region stays only where nodata alone is around it, or around a group of nothing but small regions.
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
from co2s_cli.geo.polygons.class_raster import CACHE_BYTES, ClassRaster, Rows
from co2s_cli.geo.polygons.regions import find

_ARRAYS = 3
"""Classes, mask and sieved classes: a byte each for every pixel, on disk."""

_MAX_PASSES = 8
"""Two small regions that are each other's largest neighbour are merged only after a pass has changed their sizes."""

_CHUNK_PIXELS = 1_000_000
"""Pixels that are read and compared at once."""

_MAX_OVERLAP_ROWS = 256
"""Rows that are looked at twice in search of small regions; for higher regions one more pass costs less."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SievedRaster:
    """A class raster without small regions, as a plain file that GDAL reads; its grid is that of its source."""

    path: Path
    merged_pixels: int
    """Pixels whose class has changed."""
    highest: int
    """Highest class that occurs; 0 where none does."""


def sieve_to_file(
    raster: ClassRaster, min_pixels: int, folder: Path, *, advance: Callable[[int], None]
) -> SievedRaster:
    """Write the raster without regions of fewer than `min_pixels` pixels.

    Args:
        raster: What to sieve.
        min_pixels: Regions of fewer pixels join their largest neighbour.
        folder: Where three bytes for each pixel are free; one stays in use for the result.
        advance: Called with the number of rows that were read.

    Raises:
        InputError: the raster cannot be read.
        OutputError: the folder has no room.
    """
    shape = raster.grid.shape
    _check_room(folder, _ARRAYS * shape[0] * shape[1])
    path = folder / "sieved"
    sieved = _new_array(path, shape)
    classes, mask = (_new_array(folder / name, shape) for name in ("classes", "mask"))
    try:
        _read(raster.source, classes, mask, advance)
        _sieve(classes, sieved, None if mask.all() else mask, min_pixels)  # GDAL is faster without
        merged_pixels = sum(int(np.count_nonzero(sieved[rows] != classes[rows])) for rows in _chunks(shape))
    finally:
        (folder / "classes").unlink()
        (folder / "mask").unlink()
    highest = max(int(np.max(sieved[rows], where=sieved[rows] != IGNORE, initial=0)) for rows in _chunks(shape))
    _write_header(path, shape)
    return SievedRaster(path, merged_pixels, highest)


def _read(source: str, classes: Bytes, mask: Bytes, advance: Callable[[int], None]) -> None:
    """Fill `classes`, and `mask` with 1 where there is a class."""
    with environment(CACHE_BYTES), reading(source) as dataset:
        reader = Rows(dataset, source)
        for rows in _chunks(classes.shape):
            classes[rows] = reader.strip(rows.start, rows.stop)
            np.not_equal(classes[rows], IGNORE, out=mask[rows].view(bool))
            advance(rows.stop - rows.start)


def _sieve(classes: Bytes, sieved: Bytes, mask: Bytes | None, min_pixels: int) -> None:
    """Sieve `classes` into `sieved`, and that in place while small regions are left and a pass changes anything."""
    gdal_sieve(classes, min_pixels, out=sieved, mask=mask, connectivity=4)
    before = -1
    for _ in range(_MAX_PASSES - 1):
        after = zlib.crc32(sieved.data)
        if after == before or not _may_hold_small(sieved, min_pixels):
            return
        before = after
        gdal_sieve(sieved, min_pixels, out=sieved, mask=mask, connectivity=4)


def _may_hold_small(classes: Bytes, min_pixels: int) -> bool:
    """False where surely no region of fewer than `min_pixels` pixels is left; takes half the time of a pass."""
    if min_pixels > _MAX_OVERLAP_ROWS:
        return True
    height = len(classes)
    for rows in _chunks((height, classes.shape[1])):
        # a small region lies wholly within rows that overlap by its height; the raster ends with a row of nodata
        top, bottom = max(0, rows.start - min_pixels), min(height, rows.stop + 1)
        ends = (int(top == 0), int(bottom == height))
        if _has_small(np.pad(classes[top:bottom], (ends, (0, 0)), constant_values=IGNORE), min_pixels):
            return True
    return False


def _has_small(rows: Bytes, min_pixels: int) -> bool:
    """Whether a class has a region of fewer than `min_pixels` pixels that touches neither the first nor last row."""
    regions = find(rows)
    sizes = np.bincount(regions.label, np.diff(regions.starts, append=rows.size), regions.count)
    is_small = (sizes < min_pixels) & (regions.values != IGNORE)
    is_small[regions.in_row(0)] = is_small[regions.in_row(len(rows) - 1)] = False
    return bool(is_small.any())


def _chunks(shape: tuple[int, int]) -> Iterator[slice]:
    """Consecutive rows of about `_CHUNK_PIXELS` pixels."""
    step = max(1, _CHUNK_PIXELS // shape[1])
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))


def _new_array(path: Path, shape: tuple[int, int]) -> Bytes:
    """An array of bytes in a file."""
    try:
        with path.open("wb") as file:
            # a mapped file with holes ends the process with SIGBUS when the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1])
            else:
                file.truncate(shape[0] * shape[1])
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise OutputError(f"{path.parent}: could not be written ({error.strerror})") from error


def _write_header(path: Path, shape: tuple[int, int]) -> None:
    """ENVI's header, with which GDAL reads a plain file of bytes."""
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {shape[1]}\nlines = {shape[0]}\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
        f"data type = 1\ninterleave = bsq\nbyte order = 0\ndata ignore value = {IGNORE}\n"
    )


def _check_room(folder: Path, needed: int) -> None:
    stats = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if stats is not None and stats.f_bavail * stats.f_frsize < needed:
        raise OutputError(
            f"{folder.parent}: {show_bytes(stats.f_bavail * stats.f_frsize)} are free, "
            f"{show_bytes(needed)} are needed to merge small regions",
            hint="make room, write to another disk, or switch merging off with --min-area 0",
        )
