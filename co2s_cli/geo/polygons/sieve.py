"""Merge small regions of a class raster into their largest neighbours: GDAL's sieve over plain arrays on disk.

GDAL keeps a row of pixels and a few numbers for each region in memory, so that a raster of any width and height can be
sieved. A small region joins its largest 4-connected neighbour, directly or through other small ones; nodata is no
neighbour. A small region stays only where nodata alone is around it, or around a group of nothing but small regions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.features import sieve as gdal_sieve

from co2s_cli.classes import IGNORE
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import environment, reading
from co2s_cli.geo.polygons.class_raster import Rows
from co2s_cli.geo.polygons.processes import CACHE_BYTES

_ARRAYS = 3
"""Classes, sieved classes and the mask: a byte each for every pixel, on disk."""

_MOST_PASSES = 8
"""Two neighbours that are each other's largest, both small, are seen by GDAL only after a pass has changed others."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SievedRows:
    """Some rows of the sieved raster."""

    top: int
    classes: Bytes
    """(rows, columns); nodata is 255."""
    merged: int
    """Pixels whose class has changed."""


def sieved(source: str, shape: tuple[int, int], small: int, folder: Path, *, rows_at_once: int) -> Iterator[SievedRows]:
    """The raster without regions of fewer than `small` pixels, from top to bottom.

    Args:
        source: Class raster of one byte band.
        shape: Its rows and columns.
        small: Regions of fewer pixels join their largest neighbour.
        folder: Where three bytes for each pixel are free; what is written there is removed at the end.
        rows_at_once: Rows that are read, compared and given out together.

    Raises:
        InputError: the raster cannot be read.
        OutputError: the folder has no room.
    """
    _check_room(folder, _ARRAYS * shape[0] * shape[1])
    with _array(folder / "classes", shape) as classes, _array(folder / "mask", shape) as mask:
        tops = range(0, shape[0], rows_at_once)
        with environment(CACHE_BYTES), reading(source) as dataset:
            for top in tops:
                values = Rows(dataset, source).inside(top, min(top + rows_at_once, shape[0]))
                classes[top : top + len(values)] = values
                mask[top : top + len(values)] = values != IGNORE
        with _array(folder / "sieved", shape) as merged:
            _sieve(classes, merged, mask, small, rows_at_once)
            with environment(CACHE_BYTES), reading(source) as dataset:
                for top in tops:
                    rows = np.array(merged[top : top + rows_at_once])
                    before = Rows(dataset, source).inside(top, top + len(rows))
                    yield SievedRows(top, rows, int(np.count_nonzero(rows != before)))


def _sieve(classes: Bytes, merged: Bytes, mask: Bytes, small: int, rows_at_once: int) -> None:
    """Sieve `classes` into `merged` until nothing changes; `classes` is overwritten."""
    for _ in range(_MOST_PASSES):
        gdal_sieve(classes, small, out=merged, mask=mask, connectivity=4)
        if not _copy_changes(merged, classes, rows_at_once):
            return


def _copy_changes(source: Bytes, target: Bytes, rows_at_once: int) -> bool:
    """Make `target` equal to `source`; True where it was not."""
    changed = False
    for top in range(0, len(source), rows_at_once):
        rows = slice(top, top + rows_at_once)
        if not np.array_equal(source[rows], target[rows]):
            target[rows] = source[rows]
            changed = True
    return changed


@contextlib.contextmanager
def _array(path: Path, shape: tuple[int, int]) -> Iterator[Bytes]:
    """An array of bytes in a file that is removed at the end."""
    try:
        with path.open("wb") as file:
            # a mapped file with holes ends the process with SIGBUS when the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1])
            else:
                file.truncate(shape[0] * shape[1])
        yield np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        if error.errno is None:
            raise
        raise OutputError(f"{path.parent}: could not be written ({error.strerror})") from error
    finally:
        path.unlink(missing_ok=True)


def _check_room(folder: Path, needed: int) -> None:
    stats = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if stats is not None and stats.f_bavail * stats.f_frsize < needed:
        raise OutputError(
            f"{folder.parent}: {show_bytes(stats.f_bavail * stats.f_frsize)} are free, "
            f"{show_bytes(needed)} are needed to merge small regions",
            hint="make room, write to another disk, or switch merging off with --min-area 0",
        )
