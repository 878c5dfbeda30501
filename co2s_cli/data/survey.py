"""Where the labels of the sources are, what they hold, and which blocks of them validate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.sources import Source, touch
from co2s_cli.errors import InputError
from co2s_cli.tiling import Window, spans

STRIP = 2048
"""Side of what is read at a time."""

GAP = 4
"""Pixels between the parts that train and those that validate, where the latter are drawn."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to draw a crop around: a part of a source, by the source's place in its list."""

    source: int
    near: Window | None
    """The crop holds a pixel of it; None = anywhere."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a source that holds labels."""

    source: int
    cell: Window
    """The block of the lattice."""
    near: Window
    """The smallest window around its labels."""
    counts: tuple[int, ...]
    """Labelled pixels by class."""


def is_small(source: Source, crop: int) -> bool:
    """Whether a source is drawn as one: no side of it is longer than two crops."""
    return max(source.scene.height, source.scene.width) <= 2 * crop


def labeled_blocks(sources: Sequence[Source], classes: int, crop: int) -> list[Block]:
    """The parts of the sources that hold labels: whole small images, blocks of half a crop of large ones.

    Reads every label once, so that a value that is no class is found before the first step.
    """
    return [
        block
        for index, source in enumerate(sources)
        for block in _blocks(index, source, classes, STRIP if is_small(source, crop) else max(16, crop // 2))
    ]


def _blocks(index: int, source: Source, classes: int, side: int) -> Iterator[Block]:
    if source.labels is None:
        raise ValueError(f"{source.scene.source}: has no labels")
    strip = max(side, STRIP // side * side)
    with source.labels.reader() as reader:
        for area in source.areas:
            for top, bottom in spans(area.height, strip):
                for left, right in spans(area.width, strip):
                    window = Window(area.row + top, area.col + left, bottom - top, right - left)
                    yield from _cells(index, window, reader.read(window), classes, side)


def _cells(index: int, window: Window, labels: NDArray[np.uint8], classes: int, side: int) -> Iterator[Block]:
    if (labels == IGNORE).all():
        return
    for top, bottom in spans(window.height, side):
        for left, right in spans(window.width, side):
            part = labels[top:bottom, left:right]
            rows, cols = np.nonzero(part != IGNORE)
            if rows.size:
                row, col = window.row + top, window.col + left
                cell = Window(row, col, bottom - top, right - left)
                near = Window(
                    row + int(rows.min()),
                    col + int(cols.min()),
                    int(rows.max() - rows.min()) + 1,
                    int(cols.max() - cols.min()) + 1,
                )
                counts = np.bincount(part[rows, cols], minlength=classes)
                yield Block(index, cell, near, tuple(counts.tolist()))


def held_out(blocks: Sequence[Block], share: float, seed: int) -> tuple[list[Block], list[Block]]:
    """Blocks that train and blocks that validate: about `share` of the labelled pixels, drawn with `seed`.

    Each draw takes a block with the classes that the chosen ones lack, so that a small share still sees the rare ones.
    Never all blocks validate, and never none.
    """
    if len(blocks) < 2:
        raise InputError(
            f"labels: {len(blocks)} block with labels found, validation by a ratio wants at least 2",
            hint="label more places, or name val: files in data.yaml",
        )
    counts = np.array([block.counts for block in blocks])
    order = np.random.default_rng([seed, len(blocks)]).permutation(len(blocks))
    chosen = np.zeros(len(blocks), np.bool_)
    chosen[order] = _drawn(counts[order], share * counts.sum())
    train = [block for block, out in zip(blocks, chosen, strict=True) if not out]
    return train, [block for block, out in zip(blocks, chosen, strict=True) if out]


def _drawn(counts: NDArray[np.int64], wanted: float) -> NDArray[np.bool_]:
    """Which blocks, of those in the order of drawing, are taken until `wanted` pixels are.

    As long as a block has a class that is lacking, those with most such classes go first: at most one for each class.
    """
    present, sizes = counts > 0, counts.sum(axis=1)
    taken = np.zeros(len(counts), np.bool_)
    lacking = np.ones(counts.shape[1], np.bool_)
    while sizes[taken].sum() < wanted and taken.sum() < len(counts) - 1:
        fresh = present[:, lacking].sum(axis=1)
        best = fresh.argmax()
        if not fresh[best]:
            break
        taken[best] = True
        lacking &= ~present[best]
    rest = np.flatnonzero(~taken)
    before = sizes[taken].sum() + np.cumsum(sizes[rest]) - sizes[rest]
    more = min(np.count_nonzero(before < wanted), len(rest) - 1)
    taken[rest[:more]] = True
    return taken


def validation_window(block: Block, sources: Sequence[Source]) -> Window:
    """What of a held-out block validates: all but a rim, so that it touches no label that trains."""
    cell = block.cell
    if sources[block.source].chip or min(cell.height, cell.width) <= 4 * GAP:
        return cell
    return Window(cell.row + GAP, cell.col + GAP, cell.height - 2 * GAP, cell.width - 2 * GAP)


def without(sources: Sequence[Source], blocks: Sequence[Block]) -> list[Source]:
    """The sources with the cells of `blocks` held out."""
    out = list(sources)
    for block in blocks:
        out[block.source] = out[block.source].keeping_out([block.cell])
    return out


def unlabeled_items(sources: Sequence[Source], crop: int) -> list[Item]:
    """Parts to draw unlabelled crops around: small images, and blocks of a crop that hold data and do not validate."""
    items: list[Item] = []
    for index, source in enumerate(sources):
        if is_small(source, crop):
            items.append(Item(index, None))
            continue
        with source.scene.reader() as reader:
            for top, bottom in spans(source.scene.height, crop):
                for left, right in spans(source.scene.width, crop):
                    cell = Window(top, left, bottom - top, right - left)
                    if not any(touch(cell, out) for out in source.holdout) and reader.has_data(cell):
                        items.append(Item(index, cell))
    return items


def item_of(block: Block, sources: Sequence[Source], crop: int) -> Item:
    """The labelled item of a block."""
    return Item(block.source, None if is_small(sources[block.source], crop) else block.near)
