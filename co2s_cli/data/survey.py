"""Where the labels of the sources are, what they hold, and which blocks of them validate."""

from __future__ import annotations

import hashlib
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
    core: Window | None
    """What of the cell can validate: all but a rim, so that it touches nothing that trains; None = no label there."""
    counts: tuple[int, ...]
    """Labelled pixels by class."""
    content: str
    """A hash of the labels in the cell."""


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
    whole = Window(0, 0, source.scene.height, source.scene.width)
    with source.labels.reader() as reader:
        for area in source.areas:
            for window in _parts(area, max(side, STRIP // side * side)):
                labels = reader.read(window)
                if (labels == IGNORE).all():
                    continue
                for cell in _parts(window, side):
                    top, left = cell.row - window.row, cell.col - window.col
                    part = labels[top : top + cell.height, left : left + cell.width]
                    if (part != IGNORE).any():
                        yield _block(index, cell, part, classes, rim=0 if cell == whole else GAP)


def _parts(window: Window, side: int) -> Iterator[Window]:
    for top, bottom in spans(window.height, side):
        for left, right in spans(window.width, side):
            yield Window(window.row + top, window.col + left, bottom - top, right - left)


def _block(index: int, cell: Window, labels: NDArray[np.uint8], classes: int, *, rim: int) -> Block:
    rows, cols = np.nonzero(labels != IGNORE)
    row, col = int(rows.min()), int(cols.min())
    inner = labels[rim : cell.height - rim, rim : cell.width - rim]
    return Block(
        source=index,
        cell=cell,
        near=Window(cell.row + row, cell.col + col, int(rows.max()) - row + 1, int(cols.max()) - col + 1),
        core=Window(cell.row + rim, cell.col + rim, *inner.shape) if (inner != IGNORE).any() else None,
        counts=tuple(np.bincount(labels[rows, cols], minlength=classes).tolist()),
        content=hashlib.sha256(labels.tobytes()).hexdigest(),
    )


def held_out(
    blocks: Sequence[Block], share: float, seed: int, *, hint: str = "label more places"
) -> tuple[list[Block], list[Block]]:
    """Blocks that train and blocks that validate: about `share` of the labelled pixels, drawn with `seed`.

    Never all blocks validate, and never none; `hint` says what to do where they are too few for that.
    """
    able = np.flatnonzero([block.core is not None for block in blocks])
    if len(blocks) < 2 or not able.size:
        found = f"{len(blocks)} block{'s' * (len(blocks) != 1)} with labels found"
        wanted = "at least 2" if len(blocks) < 2 else f"labels {GAP} pixels and more from the edge of one"
        raise InputError(
            f"labels: {found}, validation by a ratio wants {wanted}", hint=f"{hint}, or name val: files in data.yaml"
        )
    chosen = _chosen(blocks, able, share, seed, most=min(len(able), len(blocks) - 1))
    train = [block for block, out in zip(blocks, chosen, strict=True) if not out]
    return train, [block for block, out in zip(blocks, chosen, strict=True) if out]


def share_of(blocks: Sequence[Block], share: float, seed: int) -> list[Block]:
    """About `share` of the labelled pixels, drawn with `seed`; a larger share takes the same blocks and more."""
    chosen = _chosen(blocks, np.arange(len(blocks)), share, seed, most=len(blocks))
    return [block for block, kept in zip(blocks, chosen, strict=True) if kept]


def _chosen(
    blocks: Sequence[Block], able: NDArray[np.intp], share: float, seed: int, *, most: int
) -> NDArray[np.bool_]:
    """Which blocks are drawn: `most` of the `able` ones at most, with `share` of the labelled pixels of all.

    Each draw takes a block with the classes that the chosen ones lack, so that a small share still sees the rare ones.
    """
    counts = np.array([block.counts for block in blocks])
    order = able[np.random.default_rng([seed, len(able)]).permutation(len(able))]
    chosen = np.zeros(len(blocks), np.bool_)
    chosen[order] = _drawn(counts[order], share * counts.sum(), most)
    return chosen


def _drawn(counts: NDArray[np.int64], wanted: float, most: int) -> NDArray[np.bool_]:
    """Which blocks, of those in the order of drawing, are taken until `wanted` pixels or `most` blocks are.

    As long as a block has a class that is lacking, those with most such classes go first: at most one for each class.
    """
    present, sizes = counts > 0, counts.sum(axis=1)
    taken = np.zeros(len(counts), np.bool_)
    lacking = np.ones(counts.shape[1], np.bool_)
    while sizes[taken].sum() < wanted and taken.sum() < most:
        fresh = present[:, lacking].sum(axis=1)
        best = fresh.argmax()
        if not fresh[best]:
            break
        taken[best] = True
        lacking &= ~present[best]
    rest = np.flatnonzero(~taken)
    before = sizes[taken].sum() + np.cumsum(sizes[rest]) - sizes[rest]
    more = min(np.count_nonzero(before < wanted), most - int(taken.sum()))
    taken[rest[:more]] = True
    return taken


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
