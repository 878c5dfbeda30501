"""Decoded blocks of one raster, shared by the threads that read it: GDAL keeps those of each handle by themselves."""

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
"""Samples (bands, h, w), whatever they hold where they are not valid, and validity (h, w), True = valid."""

SIDE, STRIP = 256, 64
"""Blocks are joined into pieces of at least so many rows and columns; into so many rows where they are very wide."""

_WIDE = 4096
"""Columns from which on a block is very wide: mostly a row of the raster."""

KEPT = 8
"""A cache that holds fewer pieces than this is of no use."""

Piece = tuple[int, int]
"""Row and column of a piece of the raster."""


class SharedBlocks:
    """The pieces used last, each read by one thread, whatever thread asks for it first."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes to hold; pieces on their way to a reader come on top."""
        self._limit = limit
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Piece, Future[Pixels]] = OrderedDict()
        self._held = 0

    def pieces(self, wanted: list[Piece], read: Callable[[Piece], Pixels]) -> list[Pixels]:
        """The wanted pieces; those that no thread has begun are read here, those that others read are waited for."""
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
        """Read a piece for all who wait for it; one that cannot be read is not kept."""
        try:
            pixels = read(piece)
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits for it
            with self._lock:
                del self._pieces[piece]
            future.set_exception(error)
            return
        future.set_result(pixels)
        with self._lock:
            self._held += _size(pixels)
            self._drop()

    def _drop(self) -> None:
        """Forget the pieces used longest ago until the rest fits; those that are being read stay."""
        for piece in [piece for piece, future in self._pieces.items() if future.done()]:
            if self._held <= self._limit:
                return
            self._held -= _size(self._pieces.pop(piece).result())


def _size(pixels: Pixels) -> int:
    return pixels[0].nbytes + pixels[1].nbytes


def piece_shape(block_shape: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a piece of a raster of `shape`: whole blocks."""
    (height, width), least = block_shape, STRIP if block_shape[1] > _WIDE else SIDE
    return min(-(-least // height) * height, shape[0]), min(-(-SIDE // width) * width, shape[1])


def assembled(window: Window, piece: tuple[int, int], read: Callable[[list[Piece]], list[Pixels]]) -> Pixels:
    """The pixels of a window, put together of the pieces around it; the arrays are the caller's own."""
    rows = range(window.row // piece[0], (window.bottom - 1) // piece[0] + 1)
    cols = range(window.col // piece[1], (window.right - 1) // piece[1] + 1)
    wanted = [(row, col) for row in rows for col in cols]
    parts = read(wanted)
    samples = np.empty((len(parts[0][0]), window.height, window.width), parts[0][0].dtype)
    valid = np.empty((window.height, window.width), np.bool_)
    for (row, col), (part, part_valid) in zip(wanted, parts, strict=True):
        top, left = row * piece[0], col * piece[1]
        to_rows, from_rows = _shared(window.row, window.bottom, top, top + part.shape[1])
        to_cols, from_cols = _shared(window.col, window.right, left, left + part.shape[2])
        samples[:, to_rows, to_cols] = part[:, from_rows, from_cols]
        valid[to_rows, to_cols] = part_valid[from_rows, from_cols]
    return samples, valid


def _shared(start: int, stop: int, first: int, last: int) -> tuple[slice, slice]:
    """What a window `start` … `stop` and a piece `first` … `last` share, as seen from the window and the piece."""
    low, high = max(start, first), min(stop, last)
    return slice(low - start, high - start), slice(low - first, high - first)
