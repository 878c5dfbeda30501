"""Find the blocks of the sources that hold labels, and the items that crops are drawn around."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.sources import Source, shared, touch
from co2s_cli.geo.labels.labels import STRIP
from co2s_cli.tiling import Window, spans

SMALLEST_CELL = 16
"""Smallest side, in pixels, of the cells that an image is divided into."""

GAP = 4
"""Pixels between training and validation labels, if the latter are drawn."""


@dataclass(frozen=True, slots=True)
class Item:
    """Where a crop is drawn: anywhere in a source, or at a window of it."""

    source: int
    """Index of the source in the pool's list."""
    near: Window | None
    """The crop contains a pixel of this window; None: the crop lies anywhere in the source."""


@dataclass(frozen=True, slots=True)
class LabelBlock:
    """A part of a source that holds labels: the unit that is drawn for training or validation."""

    source: int
    """Index of the source in its list."""
    cell: Window
    """Extent of the block: a cell of a lattice, a whole small image, or polygons with a margin."""
    near: Window
    """Smallest window around the block's labels."""
    core: Window | None
    """The cell without the rim that separates it from training labels, so that it can validate; None if this part holds
    no label."""
    counts: tuple[int, ...]
    """(classes,) labelled pixels of each class."""
    core_counts: tuple[int, ...]
    """(classes,) those inside the core."""
    content: str
    """Hash of the labels in the cell."""


def is_small(source: Source, crop: int) -> bool:
    """Whether a source is a single block: no side is longer than two crops."""
    return max(source.scene.height, source.scene.width) <= 2 * crop


def labeled_blocks(sources: Sequence[Source], classes: int, crop: int) -> list[LabelBlock]:
    """The blocks that hold labels: small images as a whole, large ones divided into cells of half a crop.

    All labels are read once, so that values that are no class are found before the first step. Labels in held-out
    windows do not count.
    """
    return [block for index, source in enumerate(sources) for block in blocks_of(index, source, classes, crop)]


def blocks_of(index: int, source: Source, classes: int, crop: int) -> list[LabelBlock]:
    """The labelled blocks of source number `index`."""
    return cells_of(index, source, classes, STRIP if is_small(source, crop) else max(SMALLEST_CELL, crop // 2))


def cells_of(index: int, source: Source, classes: int, side: int) -> list[LabelBlock]:
    """The labelled cells of `side` pixels of source number `index`, also of a small image."""
    return list(_blocks(index, source, classes, side))


def _blocks(index: int, source: Source, classes: int, side: int) -> Iterator[LabelBlock]:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    whole = Window(0, 0, source.scene.height, source.scene.width)
    with source.labels.reader() as reader:
        for area in source.areas:
            for window in _parts(area, max(side, STRIP // side * side)):
                labels = without(reader.read(window), window, source.holdout)
                if (labels == IGNORE).all():
                    continue
                for cell in _parts(window, side):
                    top, left = cell.row - window.row, cell.col - window.col
                    part = labels[top : top + cell.height, left : left + cell.width]
                    if (part != IGNORE).any():
                        yield block_of(index, cell, part, classes, rim=0 if cell == whole else GAP)


def without(labels: NDArray[np.uint8], window: Window, holdout: Sequence[Window]) -> NDArray[np.uint8]:
    """The labels (h, w) of `window`, with `IGNORE` inside the `holdout` windows; `labels` is not changed."""
    remaining = labels
    for held_out in holdout:
        if touch(window, held_out):
            remaining = labels.copy() if remaining is labels else remaining
            rows = slice(max(0, held_out.row - window.row), max(0, held_out.bottom - window.row))
            cols = slice(max(0, held_out.col - window.col), max(0, held_out.right - window.col))
            remaining[rows, cols] = IGNORE
    return remaining


def _parts(window: Window, side: int) -> Iterator[Window]:
    """The window cut into squares of `side` pixels; those at the right and lower edge may be smaller."""
    for top, bottom in spans(window.height, side):
        for left, right in spans(window.width, side):
            yield Window(window.row + top, window.col + left, bottom - top, right - left)


def block_of(index: int, cell: Window, labels: NDArray[np.uint8], classes: int, *, rim: int) -> LabelBlock:
    """The block with extent `cell` and `labels` (h, w) in source number `index`; its core is without `rim` pixels."""
    rows, cols = np.nonzero(labels != IGNORE)
    row, col = int(rows.min()), int(cols.min())
    inner = labels[rim : cell.height - rim, rim : cell.width - rim]
    return LabelBlock(
        source=index,
        cell=cell,
        near=Window(cell.row + row, cell.col + col, int(rows.max()) - row + 1, int(cols.max()) - col + 1),
        core=Window(cell.row + rim, cell.col + rim, *inner.shape) if (inner != IGNORE).any() else None,
        counts=tuple(np.bincount(labels[rows, cols], minlength=classes).tolist()),
        core_counts=tuple(np.bincount(inner[inner != IGNORE], minlength=classes).tolist()),
        content=hashlib.sha256(labels.tobytes()).hexdigest(),
    )


def unlabeled_items(sources: Sequence[Source], crop: int) -> list[Item]:
    """Items for unlabelled crops: small images, and cells of one crop in large images that hold data.

    Cells that touch a held-out window are left out, unless none is free of them: then those stay of which held-out
    windows, which no crop shows, cover less than half.
    """
    items: list[Item] = []
    touched: list[Item] = []
    for index, source in enumerate(sources):
        if is_small(source, crop):
            items.append(Item(index, None))
            continue
        with source.scene.reader() as reader:
            for top, bottom in spans(source.scene.height, crop):
                for left, right in spans(source.scene.width, crop):
                    cell = Window(top, left, bottom - top, right - left)
                    hidden = (part for holdout in source.holdout if (part := shared(cell, holdout)))
                    covered = sum(part.height * part.width for part in hidden)
                    if covered < cell.height * cell.width / 2 and reader.has_data(cell):
                        (touched if covered else items).append(Item(index, cell))
    return items or touched


def item_of(block: LabelBlock, sources: Sequence[Source], crop: int) -> Item:
    """The item for labelled crops of a block."""
    return Item(block.source, None if is_small(sources[block.source], crop) else block.near)
