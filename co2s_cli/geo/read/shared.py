"""A cache of decoded blocks of one raster, shared by the threads that read it: GDAL's own cache is kept per handle."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.tiling import Window

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]
"""Samples (bands, h, w), arbitrary where not valid, and validity (h, w), True = valid."""

PIECE_SIDE = 256
"""Least number of rows and of columns of a piece. A piece, the unit of the cache, consists of whole blocks."""

WIDE_PIECE_ROWS = 64
"""Least number of rows of a piece whose blocks are wider than `_WIDE_COLUMNS`."""

_WIDE_COLUMNS = 4096
"""A block of more columns is mostly a whole row of the raster."""

MIN_PIECES = 8
"""A cache that holds fewer pieces is useless."""

Piece = tuple[int, int]
"""Row and column of a piece in the lattice of pieces of the raster."""


class SharedBlocks:
    """A cache of the most recently used pieces; a piece is read by the thread that first asks for it."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the cached pieces; pieces that are being read come on top."""
        self._limit_bytes = limit
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Piece, Future[Pixels]] = OrderedDict()
        self._held_bytes = 0

    def pieces(self, wanted: list[Piece], read: Callable[[Piece], Pixels]) -> list[Pixels]:
        """The wanted pieces: from the cache, by `read`, or by waiting for another thread that is reading the piece."""
        futures, missing = [], []
        with self._lock:
            for piece in wanted:
                future = self._pieces.get(piece)
                if future is None:
                    future = self._pieces[piece] = Future()
                    missing.append((piece, future))
                self._pieces.move_to_end(piece)
                futures.append(future)
        for piece, future in missing:
            self._fill(piece, future, read)
        return [future.result() for future in futures]

    def _fill(self, piece: Piece, future: Future[Pixels], read: Callable[[Piece], Pixels]) -> None:
        """Read a piece for all threads that wait for it; a piece that cannot be read leaves the cache."""
        try:
            pixels = read(piece)
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits for it
            with self._lock:
                del self._pieces[piece]
            future.set_exception(error)
            return
        future.set_result(pixels)
        with self._lock:
            self._held_bytes += _size(pixels)
            self._drop()

    def _drop(self) -> None:
        """Drop the least recently used pieces until the rest fits; pieces that are being read stay."""
        for piece in [piece for piece, future in self._pieces.items() if future.done()]:
            if self._held_bytes <= self._limit_bytes:
                return
            self._held_bytes -= _size(self._pieces.pop(piece).result())


def _size(pixels: Pixels) -> int:
    """Bytes of a piece."""
    return pixels[0].nbytes + pixels[1].nbytes


def piece_shape(block_shape: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a piece, whole blocks, of a raster of `shape`."""
    (height, width), least_rows = block_shape, WIDE_PIECE_ROWS if block_shape[1] > _WIDE_COLUMNS else PIECE_SIDE
    return min(-(-least_rows // height) * height, shape[0]), min(-(-PIECE_SIDE // width) * width, shape[1])


def assembled(window: Window, piece: tuple[int, int], read: Callable[[list[Piece]], list[Pixels]]) -> Pixels:
    """The pixels of a window, copied from the pieces of shape `piece` that `read` gives into new arrays."""
    rows = range(window.row // piece[0], (window.bottom - 1) // piece[0] + 1)
    cols = range(window.col // piece[1], (window.right - 1) // piece[1] + 1)
    wanted = [(row, col) for row in rows for col in cols]
    parts = read(wanted)
    samples = np.empty((len(parts[0][0]), window.height, window.width), parts[0][0].dtype)
    valid = np.empty((window.height, window.width), np.bool_)
    for (row, col), (part, part_valid) in zip(wanted, parts, strict=True):
        top, left = row * piece[0], col * piece[1]
        dst_rows, src_rows = _overlap(window.row, window.bottom, top, top + part.shape[1])
        dst_cols, src_cols = _overlap(window.col, window.right, left, left + part.shape[2])
        samples[:, dst_rows, dst_cols] = part[:, src_rows, src_cols]
        valid[dst_rows, dst_cols] = part_valid[src_rows, src_cols]
    return samples, valid


def _overlap(start: int, stop: int, first: int, last: int) -> tuple[slice, slice]:
    """The overlap of a window `start` … `stop` and a piece `first` … `last`, as a slice of each."""
    low, high = max(start, first), min(stop, last)
    return slice(low - start, high - start), slice(low - first, high - first)
