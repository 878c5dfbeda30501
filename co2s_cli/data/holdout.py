"""Which of the labelled places validate where a share of the labels does: whole polygons, or blocks of rasters."""

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
    """The polygons of a source, as blocks; those that lie within `2 GAP` pixels of each other are one.

    Empty where the labels are no polygons, where windows of the image are given, and where the polygons cannot be
    told apart or one is larger than `STRIP` pixels: then blocks of a lattice are drawn.
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

    Each class that two blocks hold stands on both sides, where the other classes in these blocks allow it. Never all
    blocks validate, and never none; `hint` says what to do where they are too few for that.
    """
    able = np.flatnonzero([block.core is not None for block in blocks])
    if len(blocks) < 2 or not able.size:
        found = f"{len(blocks)} block{'s' * (len(blocks) != 1)} with labels found"
        wanted = "at least 2" if len(blocks) < 2 else f"labels {GAP} pixels and more from the edge of one"
        raise InputError(
            f"labels: {found}, validation by a ratio wants {wanted}", hint=f"{hint}, or name val: files in data.yaml"
        )
    chosen = _chosen(blocks, able, share, seed, most=min(len(able), len(blocks) - 1), both=True)
    train = [block for block, out in zip(blocks, chosen, strict=True) if not out]
    return train, [block for block, out in zip(blocks, chosen, strict=True) if out]


def share_of(blocks: Sequence[LabelBlock], share: float, seed: int) -> list[LabelBlock]:
    """About `share` of the labelled pixels, drawn with `seed`; a larger share takes the same blocks and more."""
    chosen = _chosen(blocks, np.arange(len(blocks)), share, seed, most=len(blocks))
    return [block for block, kept in zip(blocks, chosen, strict=True) if kept]


def _chosen(
    blocks: Sequence[LabelBlock], able: NDArray[np.intp], share: float, seed: int, *, most: int, both: bool = False
) -> NDArray[np.bool_]:
    """Which blocks are drawn: `most` of the `able` ones at most, with `share` of the labelled pixels of all.

    First come blocks with the classes that the chosen ones lack, so that a small share still sees the rare ones.
    `both`: each class that two blocks hold stands on both sides, even where that takes more than the share; one block
    at least is drawn.
    """
    counts = np.array([block.counts for block in blocks])
    order = able[np.random.default_rng([seed, len(able)]).permutation(len(able))]
    chosen = np.zeros(len(blocks), np.bool_)
    if both:
        others = np.delete(counts, able, axis=0) > 0
        chosen[order] = _on_both_sides(counts[order], np.asarray(others.any(axis=0)), share * counts.sum(), most)
    if not chosen.any():
        chosen[order] = _drawn(counts[order], share * counts.sum(), most)
    return chosen


def _on_both_sides(
    counts: NDArray[np.int64], elsewhere: NDArray[np.bool_], wanted: float, most: int
) -> NDArray[np.bool_]:
    """Which blocks, of those in the order of drawing, are taken so that no class loses its last one.

    `elsewhere`: the classes that blocks hold which cannot be drawn.
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
