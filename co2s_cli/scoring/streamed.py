"""Counts a map against its truth block by block, in bounded memory; the counts do not depend on the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.progress import Progress
from co2s_cli.scoring.boundary import frame_width
from co2s_cli.scoring.counts import IDS, CountRules, MapCounts
from co2s_cli.tiling import Window, blocks

SIDE = 1024
"""Side of a block in pixels. A row of blocks over 50,000 columns fits GDAL's cache: strips are not read twice."""


class ByteReader(Protocol):
    """Reads one byte for each pixel of a window."""

    def read(self, window: Window) -> IDS:
        """The values (h, w) in a window of the map; `IGNORE` where there are none."""


@dataclass(frozen=True, slots=True)
class MapAndTruth:
    """A map and its truth on the same pixels."""

    truth: ByteReader
    predicted: ByteReader
    confidence: ByteReader | None
    """The map's confidences as stored; None if it has none."""
    shape: tuple[int, int]
    """Rows and columns, the same for all readers."""


@dataclass(frozen=True, slots=True)
class Recoded:
    """A reader that replaces the ids of another one by those of a table."""

    reader: ByteReader
    table: NDArray[np.uint8]
    """(256,) new id for each id."""

    def read(self, window: Window) -> IDS:
        """The new ids (h, w) in a window."""
        return self.table[self.reader.read(window)]


def recoding(ids: tuple[int, ...]) -> NDArray[np.uint8]:
    """The table (256,) that replaces id i by ids[i], and other ids by `IGNORE`."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(ids)] = ids
    return table


def counts(pair: MapAndTruth, window: Window, rules: CountRules, progress: Progress, side: int = SIDE) -> MapCounts:
    """Counts in a window of the map, in blocks of `side` pixels."""
    total = MapCounts.empty()
    parts = blocks(window.height, window.width, band=side, panel=side)
    parts.sort(key=lambda part: (part.row, part.col))  # row by row, as the strips of a raster lie in its file
    progress.start("score", len(parts), "block")
    for part in parts:
        core = Window(window.row + part.row, window.col + part.col, part.height, part.width)
        total = _plus_block(total, pair, core, rules)
        progress.advance()
    return total


def _plus_block(total: MapCounts, pair: MapAndTruth, core: Window, rules: CountRules) -> MapCounts:
    """`total` plus the counts of the block `core`; without labels in it the map is not read."""
    outer = _framed(core, frame_width(rules.tolerance), pair.shape)
    core_slices = (
        slice(core.row - outer.row, core.bottom - outer.row),
        slice(core.col - outer.col, core.right - outer.col),
    )
    truth = pair.truth.read(outer)
    if (truth[core_slices] == IGNORE).all():
        return total
    confidence = None if pair.confidence is None else pair.confidence.read(core)
    return total.plus(MapCounts.of(truth, pair.predicted.read(outer), confidence, core_slices, rules))


def _framed(core: Window, frame: int, shape: tuple[int, int]) -> Window:
    """The window enlarged by `frame` pixels on each side, within a map of `shape` (rows, columns)."""
    top, left = max(0, core.row - frame), max(0, core.col - frame)
    bottom, right = min(shape[0], core.bottom + frame), min(shape[1], core.right + frame)
    return Window(top, left, bottom - top, right - left)
