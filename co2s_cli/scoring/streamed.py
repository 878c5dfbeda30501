"""Count map against truth block by block: memory does not grow with the map, and no count depends on the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.progress import Progress
from co2s_cli.scoring.boundary import reach
from co2s_cli.scoring.counts import IDS, CountRules, MapCounts
from co2s_cli.tiling import Window, blocks

SIDE = 1024
"""Of a block, in pixels: a row of blocks over 50,000 columns fits GDAL's cache, so that strips are not read twice."""


class ByteReader(Protocol):
    """Bytes of windows."""

    def read(self, window: Window) -> IDS:
        """(h, w) of a window inside the map; `IGNORE` where there is nothing."""


@dataclass(frozen=True, slots=True)
class MapAndTruth:
    """A map and its truth on the same pixels."""

    truth: ByteReader
    predicted: ByteReader
    sure: ByteReader | None
    """Stored confidences."""
    shape: tuple[int, int]
    """Rows and columns of all of them."""


@dataclass(frozen=True, slots=True)
class Recoded:
    """A reader whose ids are replaced."""

    reader: ByteReader
    table: NDArray[np.uint8]
    """(256) new id of each id."""

    def read(self, window: Window) -> IDS:
        """(h, w) the new ids."""
        return self.table[self.reader.read(window)]


def recoding(ids: tuple[int, ...]) -> NDArray[np.uint8]:
    """A table that replaces id i by ids[i]; what has no new id gets none."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(ids)] = ids
    return table


def counts(pair: MapAndTruth, window: Window, rules: CountRules, progress: Progress, side: int = SIDE) -> MapCounts:
    """What is counted in a window of the map."""
    total = MapCounts.empty()
    parts = blocks(window.height, window.width, band=side, panel=side)
    parts.sort(key=lambda part: (part.row, part.col))  # along the rows, in which strips lie
    progress.start("score", len(parts), "block")
    for part in parts:
        core = Window(window.row + part.row, window.col + part.col, part.height, part.width)
        total = _added(total, pair, core, rules)
        progress.advance()
    return total


def _added(total: MapCounts, pair: MapAndTruth, core: Window, rules: CountRules) -> MapCounts:
    """The tally with a block; what is not labelled is not read on the map."""
    outer = _framed(core, reach(rules.tolerance), pair.shape)
    inside = (
        slice(core.row - outer.row, core.bottom - outer.row),
        slice(core.col - outer.col, core.right - outer.col),
    )
    truth = pair.truth.read(outer)
    if (truth[inside] == IGNORE).all():
        return total
    sure = None if pair.sure is None else pair.sure.read(core)
    return total.plus(MapCounts.of(truth, pair.predicted.read(outer), sure, inside, rules))


def _framed(core: Window, frame: int, shape: tuple[int, int]) -> Window:
    """A window with a frame around it, as far as the map goes."""
    top, left = max(0, core.row - frame), max(0, core.col - frame)
    bottom, right = min(shape[0], core.bottom + frame), min(shape[1], core.right + frame)
    return Window(top, left, bottom - top, right - left)
