"""One pass over a class map: how much each class covers, and a random sample of each, in bounded memory."""

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
"""Pixels of a map that are held at a time."""

Numbers = NDArray[np.float64]


def strips(reader: ByteReader, shape: tuple[int, int], progress: Progress) -> Iterator[tuple[int, IDS]]:
    """The first row and the class ids (h, width) of each strip of a map of `shape`, from top to bottom."""
    height, width = shape
    parts = spans(height, max(1, min(height, STRIP_PIXELS // width)))
    progress.start("read the map", len(parts), "strip")
    for top, bottom in parts:
        yield top, reader.read(Window(top, 0, bottom - top, width))
        progress.advance()


@dataclass(slots=True)
class ClassTotals:
    """How much of a map each class covers; strips are added one by one."""

    row_areas: Numbers | None
    """(height) square metres of a pixel of each row; None where the CRS does not tell."""
    pixels: NDArray[np.int64]
    """(IGNORE) by class."""
    ground: Numbers
    """(IGNORE) by class: square metres, or pixels where the CRS does not tell."""

    @classmethod
    def empty(cls, row_areas: Numbers | None) -> ClassTotals:
        """Nothing seen yet."""
        return cls(row_areas, np.zeros(IGNORE, np.int64), np.zeros(IGNORE))

    def add(self, top: int, labels: IDS) -> None:
        """Count the class ids (h, w) of the rows from `top` on."""
        height = len(labels)
        keys = labels + 256 * np.arange(height, dtype=np.int64)[:, None]
        by_row = np.bincount(keys.ravel(), minlength=256 * height).reshape(height, 256)[:, :IGNORE]
        areas = np.ones(height) if self.row_areas is None else self.row_areas[top : top + height]
        self.pixels += by_row.sum(axis=0)
        self.ground += areas @ by_row

    @property
    def occurring(self) -> list[int]:
        """Ids of the classes that the map holds."""
        return [int(class_id) for class_id in np.flatnonzero(self.pixels)]


class StratifiedDraw:
    """A random sample of `count` pixels of each class, without replacement, from strips that are added in order.

    A pixel's chance is proportional to its area on the ground. Each pixel draws an exponential time with its area as
    rate, and the earliest `count` of each class stay (Efraimidis and Spirakis 2006), so that one pass is enough and
    the sample does not depend on how the map is cut into strips.
    """

    def __init__(self, count: int, seed: int, row_areas: Numbers | None) -> None:
        self._count = count
        self._generator = np.random.default_rng(seed)
        self._rates = None if row_areas is None else row_areas / row_areas.max()
        self._limit = np.full(256, np.inf)
        """Time by class from which on a pixel is too late."""
        self._limit[IGNORE] = -np.inf
        self._times = np.empty(0)
        self._places = np.empty((0, 3), np.int64)
        """(n; class, row, column) of the pixels that stay so far."""

    def add(self, top: int, labels: IDS) -> None:
        """Let the pixels (h, w) of the rows from `top` on take part."""
        times = self._generator.standard_exponential(labels.shape)
        if self._rates is not None:
            times /= self._rates[top : top + len(labels), None]
        rows, cols = np.nonzero(times < self._limit[labels])
        if not rows.size:
            return
        places = np.stack([labels[rows, cols], rows + top, cols], axis=1)
        self._keep(np.concatenate([self._times, times[rows, cols]]), np.concatenate([self._places, places]))

    def _keep(self, times: Numbers, places: NDArray[np.int64]) -> None:
        """Keep the earliest pixels of each class."""
        order = np.lexsort((times, places[:, 0]))
        times, places = times[order], places[order]
        class_ids, first, sizes = np.unique(places[:, 0], return_index=True, return_counts=True)
        rank = np.arange(len(places)) - np.repeat(first, sizes)
        full = sizes >= self._count
        self._limit[class_ids[full]] = times[first[full] + self._count - 1]
        self._times, self._places = times[rank < self._count], places[rank < self._count]

    def places(self) -> NDArray[np.int64]:
        """(n; class, row, column) of the sample, in random order: the first points of it are a random sample too."""
        return self._generator.permutation(self._places)
