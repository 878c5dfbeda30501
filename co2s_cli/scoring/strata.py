"""One pass over a class map in bounded memory: the area of each class, and a random sample of its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.progress import Progress
from co2s_cli.scoring.counts import IDS
from co2s_cli.scoring.streamed import ByteReader
from co2s_cli.tiling import Window, spans

STRIP_PIXELS = 2**22
"""Number of pixels of a map that are in memory at a time."""

Numbers = NDArray[np.float64]


def strips(reader: ByteReader, shape: tuple[int, int], progress: Progress) -> Iterator[tuple[int, IDS]]:
    """First row and class ids (h, width) of each strip of a map of `shape` (rows, columns), from top to bottom."""
    height, width = shape
    parts = spans(height, max(1, min(height, STRIP_PIXELS // width)))
    progress.start("read the map", len(parts), "strip")
    for top, bottom in parts:
        yield top, reader.read(Window(top, 0, bottom - top, width))
        progress.advance()


@dataclass(slots=True)
class ClassTotals:
    """Pixels and area of each class of a map, summed up strip by strip."""

    row_areas: Numbers | None
    """(height,) area of a pixel in each row, in square metres; None if the CRS does not give it."""
    pixels: NDArray[np.int64]
    """(IGNORE,) number of pixels by class id."""
    ground: Numbers
    """(IGNORE,) area by class id: square metres, or pixels if the CRS does not give them."""

    @classmethod
    def empty(cls, row_areas: Numbers | None) -> ClassTotals:
        """Totals that are all 0."""
        return cls(row_areas, np.zeros(IGNORE, np.int64), np.zeros(IGNORE))

    def add(self, top: int, labels: IDS) -> None:
        """Add a strip: class ids `labels` (h, width) of the rows from `top` on."""
        height = len(labels)
        keys = labels + 256 * np.arange(height, dtype=np.int64)[:, None]
        by_row = np.bincount(keys.ravel(), minlength=256 * height).reshape(height, 256)[:, :IGNORE]
        areas = np.ones(height) if self.row_areas is None else self.row_areas[top : top + height]
        self.pixels += by_row.sum(axis=0)
        self.ground += areas @ by_row

    @property
    def occurring(self) -> list[int]:
        """Ids of the classes that occur on the map."""
        return [int(class_id) for class_id in np.flatnonzero(self.pixels)]


class StratifiedDraw:
    """A random sample of `count` pixels of each class, without replacement, from strips that are added in order.

    The probability of a pixel is proportional to its area on the ground: each pixel draws an exponential time whose
    rate is its area, and the `count` earliest pixels of each class stay (Efraimidis and Spirakis 2006). One pass is
    enough, and the sample does not depend on how the map is cut into strips.
    """

    def __init__(self, count: int, seed: int, row_areas: Numbers | None) -> None:
        self._count = count
        self._generator = np.random.default_rng(seed)
        self._rates = None if row_areas is None else row_areas / row_areas.max()
        self._limit = np.full(256, np.inf)
        """(256,) by class id: pixels with this time or a later one are not in the sample any more."""
        self._limit[IGNORE] = -np.inf
        self._times = np.empty(0)
        self._pixels = np.empty((0, 3), np.int64)
        """Class, row and column (n, 3) of the pixels in the sample so far."""

    def add(self, top: int, labels: IDS) -> None:
        """Add a strip: class ids `labels` (h, width) of the rows from `top` on."""
        times = self._generator.standard_exponential(labels.shape)
        if self._rates is not None:
            times /= self._rates[top : top + len(labels), None]
        rows, cols = np.nonzero(times < self._limit[labels])
        if not rows.size:
            return
        pixels = np.stack([labels[rows, cols], rows + top, cols], axis=1)
        self._keep(np.concatenate([self._times, times[rows, cols]]), np.concatenate([self._pixels, pixels]))

    def _keep(self, times: Numbers, pixels: NDArray[np.int64]) -> None:
        """Keep the `count` earliest pixels of each class."""
        order = np.lexsort((times, pixels[:, 0]))
        times, pixels = times[order], pixels[order]
        class_ids, first, sizes = np.unique(pixels[:, 0], return_index=True, return_counts=True)
        rank = np.arange(len(pixels)) - np.repeat(first, sizes)
        full = sizes >= self._count
        self._limit[class_ids[full]] = times[first[full] + self._count - 1]
        self._times, self._pixels = times[rank < self._count], pixels[rank < self._count]

    def sample(self) -> NDArray[np.int64]:
        """Class, row and column (n, 3) of the sample, in random order: its first points are a random sample as well."""
        return self._generator.permutation(self._pixels)
