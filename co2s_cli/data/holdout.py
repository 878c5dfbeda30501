"""Which labelled blocks validate where a share of the labels does: whole polygons, or cells of a lattice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.sources import Source
from co2s_cli.data.survey import GAP, STRIP, LabelBlock, block_of
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import PolygonLabels


def polygon_places(index: int, source: Source, classes: int) -> list[LabelBlock]:
    """A block for each polygon of a source; polygons within `2 GAP` pixels of each other share one.

    Empty where the labels are no polygons, where windows of the image are given, where all polygons share one block,
    and where a block would be larger than `STRIP` pixels: cells of a lattice are drawn then.
    """
    if not isinstance(source.labels, PolygonLabels) or source.windows:
        return []
    labels = source.labels
    cells = labels.windows(source.scene.height, source.scene.width, margin=GAP)
    if len(cells) < 2 or any(max(cell.height, cell.width) > STRIP for cell in cells):
        return []
    places = []
    for cell in cells:
        values = labels.read(cell)
        if (values != IGNORE).any():
            places.append(block_of(index, cell, values, classes, rim=0))
    return places


def held_out(
    blocks: Sequence[LabelBlock], share: float, seed: int, *, hint: str = "label more places"
) -> tuple[list[LabelBlock], list[LabelBlock]]:
    """Blocks that train and blocks that validate: about `share` of the labelled pixels, drawn with `seed`.

    A class that occurs in two blocks or more trains and validates, unless the other classes of these blocks prevent it.
    At least one block trains and one validates.

    Raises:
        InputError: there are too few blocks for that; `hint` says what to do.
    """
    eligible = np.flatnonzero([block.core is not None for block in blocks])
    if len(blocks) < 2 or not eligible.size:
        found = f"{len(blocks)} block{'s' * (len(blocks) != 1)} with labels found"
        wanted = "at least 2" if len(blocks) < 2 else f"labels {GAP} pixels and more from the edge of one"
        raise InputError(
            f"labels: {found}, validation by a ratio wants {wanted}", hint=f"{hint}, or name val: files in data.yaml"
        )
    chosen = _chosen(blocks, eligible, share, seed, most=min(len(eligible), len(blocks) - 1), both=True)
    train = [block for block, out in zip(blocks, chosen, strict=True) if not out]
    return train, [block for block, out in zip(blocks, chosen, strict=True) if out]


def share_of(blocks: Sequence[LabelBlock], share: float, seed: int) -> list[LabelBlock]:
    """Blocks with about `share` of the labelled pixels, drawn with `seed`; a larger share holds those of a smaller."""
    chosen = _chosen(blocks, np.arange(len(blocks)), share, seed, most=len(blocks))
    return [block for block, kept in zip(blocks, chosen, strict=True) if kept]


def _chosen(
    blocks: Sequence[LabelBlock], eligible: NDArray[np.intp], share: float, seed: int, *, most: int, both: bool = False
) -> NDArray[np.bool_]:
    """(blocks) True where a block is drawn: at most `most` of the `eligible`, with `share` of all labelled pixels.

    Blocks with classes that the drawn ones lack come first, so that a small share still holds rare classes. `both`: a
    class that occurs in two blocks is drawn and left at least once, even where that takes more than the share, and at
    least one block is drawn.
    """
    counts = np.array([block.counts for block in blocks])
    order = eligible[np.random.default_rng([seed, len(eligible)]).permutation(len(eligible))]
    chosen = np.zeros(len(blocks), np.bool_)
    if both:
        others = np.delete(counts, eligible, axis=0) > 0
        chosen[order] = _on_both_sides(counts[order], np.asarray(others.any(axis=0)), share * counts.sum(), most)
    if not chosen.any():
        chosen[order] = _drawn(counts[order], share * counts.sum(), most)
    return chosen


def _on_both_sides(
    counts: NDArray[np.int64], elsewhere: NDArray[np.bool_], wanted: float, most: int
) -> NDArray[np.bool_]:
    """(blocks, in the order of drawing) True where a block is taken; each class stays in a block that is not taken.

    `counts` (blocks, classes); `elsewhere` (classes) is True for classes of blocks that cannot be drawn.
    """
    present, sizes = counts > 0, counts.sum(axis=1)
    taken = np.zeros(len(counts), np.bool_)
    lacking = np.ones(counts.shape[1], np.bool_)
    while taken.sum() < most:
        last = (present[~taken].sum(axis=0) < 2) & ~elsewhere
        fresh = np.where(taken | present[:, last].any(axis=1), 0, present[:, lacking].sum(axis=1))
        best = fresh.argmax()
        if not fresh[best]:
            break
        taken[best] = True
        lacking &= ~present[best]
    kept = taken.copy()
    for class_id in np.flatnonzero(~elsewhere):
        holding = np.flatnonzero(present[:, class_id] & ~taken)
        kept[holding[-1:]] = True
    rest = np.flatnonzero(~kept)
    before = sizes[taken].sum() + np.cumsum(sizes[rest]) - sizes[rest]
    taken[rest[: min(np.count_nonzero(before < wanted), most - int(taken.sum()))]] = True
    return taken


def _drawn(counts: NDArray[np.int64], wanted: float, most: int) -> NDArray[np.bool_]:
    """(blocks, in the order of drawing) True where a block is taken, until `wanted` pixels or `most` blocks are.

    While a block holds a class that no taken block has, the one with most such classes is next.
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
