"""Draw the labelled blocks that validate if a share of the labels does: polygons, regions, or cells of a lattice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.sources import Source
from co2s_cli.data.survey import GAP, LabelBlock, block_of
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import STRIP, PolygonLabels, RasterLabels

_SPARSE = 0.1
"""Share of the pixels up to which the labels of a raster are places that somebody drew."""


def drawn_places(index: int, source: Source, classes: int, labeled_pixels: int) -> list[LabelBlock]:
    """A block for each polygon, or region of a sparse label raster, of source number `index`.

    Those within `2 GAP` pixels of each other share one. Empty for a chip, if windows of the image are given, if all
    share one block, or if a side of a block is longer than `STRIP` pixels: then cells of a lattice are drawn instead.
    """
    labels, (height, width) = source.labels, source.scene.grid.shape
    if not isinstance(labels, PolygonLabels | RasterLabels) or source.windows or source.chip:
        return []
    if isinstance(labels, RasterLabels) and labeled_pixels > _SPARSE * height * width:
        return []
    cells = labels.windows(height, width, margin=GAP)
    if len(cells) < 2 or any(max(cell.height, cell.width) > STRIP for cell in cells):
        return []
    blocks = []
    with labels.reader() as reader:
        for cell in cells:
            values = reader.read(cell)
            if (values != IGNORE).any():
                blocks.append(block_of(index, cell, values, classes, rim=0))
    return blocks


def draw_held_out(blocks: Sequence[LabelBlock], share: float, seed: int) -> tuple[list[LabelBlock], list[LabelBlock]]:
    """Blocks that train and blocks that validate: about `share` of the labelled pixels, drawn with `seed`.

    A class that occurs in two blocks or more trains and validates, unless the other classes of these blocks prevent it.
    At least one block trains and one validates.

    Raises:
        InputError: there are too few blocks.
    """
    eligible = np.flatnonzero([block.core is not None for block in blocks])
    if len(blocks) < 2 or not eligible.size:
        found = f"{len(blocks)} block{'s' * (len(blocks) != 1)} with labels found"
        wanted = "at least 2" if len(blocks) < 2 else f"labels {GAP} pixels and more from the edge of one"
        raise InputError(
            f"labels: {found}, validation by a ratio wants {wanted}",
            hint="label more places, or name val: files in data.yaml",
        )
    drawn = _draw(blocks, eligible, share, seed, most=min(len(eligible), len(blocks) - 1), both_sides=True)
    train = [block for block, is_drawn in zip(blocks, drawn, strict=True) if not is_drawn]
    return train, [block for block, is_drawn in zip(blocks, drawn, strict=True) if is_drawn]


def share_of(blocks: Sequence[LabelBlock], share: float, seed: int) -> list[LabelBlock]:
    """Blocks with about `share` of the labelled pixels, drawn with `seed`; a larger share contains a smaller one's."""
    drawn = _draw(blocks, np.arange(len(blocks)), share, seed, most=len(blocks))
    return [block for block, is_drawn in zip(blocks, drawn, strict=True) if is_drawn]


def _draw(
    blocks: Sequence[LabelBlock],
    eligible: NDArray[np.intp],
    share: float,
    seed: int,
    *,
    most: int,
    both_sides: bool = False,
) -> NDArray[np.bool_]:
    """(blocks,) True for the drawn blocks: at most `most` of the `eligible` ones, with `share` of all labelled pixels.

    Blocks with classes that the drawn ones lack are drawn first, so that a small share contains rare classes.
    `both_sides`: each class that occurs in two blocks is in a drawn and in a remaining block, even if that exceeds the
    share. Where every block has the only labels of a class, the one with the fewest classes and pixels is drawn all
    the same.
    """
    counts = np.array([block.counts for block in blocks])
    order = eligible[np.random.default_rng([seed, len(eligible)]).permutation(len(eligible))]
    drawn = np.zeros(len(blocks), np.bool_)
    if both_sides:
        in_ineligible = np.delete(counts, eligible, axis=0) > 0
        remaining = np.asarray(in_ineligible.any(axis=0))
        drawn[order] = _draw_both_sides(counts[order], remaining, share * counts.sum(), most)
        if not drawn.any():
            sizes, class_counts = counts[order].sum(axis=1), (counts[order] > 0).sum(axis=1)
            drawn[order[np.lexsort((sizes, class_counts))[0]]] = True
    else:
        drawn[order] = _draw_rare_first(counts[order], share * counts.sum(), most)
    return drawn


def _draw_both_sides(
    counts: NDArray[np.int64], remaining: NDArray[np.bool_], wanted_pixels: float, most: int
) -> NDArray[np.bool_]:
    """(blocks,) True for the drawn blocks; no class loses its last remaining block.

    Args:
        counts: (blocks, classes) labelled pixels, blocks in random order.
        remaining: (classes,) True for classes of blocks that cannot be drawn, which therefore remain anyway.
        wanted_pixels: labelled pixels to draw.
        most: most blocks to draw.
    """
    present, sizes = counts > 0, counts.sum(axis=1)
    drawn = np.zeros(len(counts), np.bool_)
    lacking = np.ones(counts.shape[1], np.bool_)
    while drawn.sum() < most:
        in_last_block = (present[~drawn].sum(axis=0) < 2) & ~remaining
        new_classes = np.where(drawn | present[:, in_last_block].any(axis=1), 0, present[:, lacking].sum(axis=1))
        best = new_classes.argmax()
        if not new_classes[best]:
            break
        drawn[best] = True
        lacking &= ~present[best]
    decided = drawn.copy()  # drawn, or reserved as the remaining block of a class
    for class_id in np.flatnonzero(~remaining):
        undrawn = np.flatnonzero(present[:, class_id] & ~drawn)
        decided[undrawn[-1:]] = True
    rest = np.flatnonzero(~decided)
    pixels_before = sizes[drawn].sum() + np.cumsum(sizes[rest]) - sizes[rest]
    drawn[rest[: min(np.count_nonzero(pixels_before < wanted_pixels), most - int(drawn.sum()))]] = True
    return drawn


def _draw_rare_first(counts: NDArray[np.int64], wanted_pixels: float, most: int) -> NDArray[np.bool_]:
    """(blocks,) True for the drawn blocks: in the given order until `wanted_pixels` or `most` blocks are drawn.

    As long as a block has a class that no drawn block has, the block with most such classes is drawn next.
    """
    present, sizes = counts > 0, counts.sum(axis=1)
    drawn = np.zeros(len(counts), np.bool_)
    lacking = np.ones(counts.shape[1], np.bool_)
    while sizes[drawn].sum() < wanted_pixels and drawn.sum() < most:
        new_classes = present[:, lacking].sum(axis=1)
        best = new_classes.argmax()
        if not new_classes[best]:
            break
        drawn[best] = True
        lacking &= ~present[best]
    rest = np.flatnonzero(~drawn)
    pixels_before = sizes[drawn].sum() + np.cumsum(sizes[rest]) - sizes[rest]
    more = min(np.count_nonzero(pixels_before < wanted_pixels), most - int(drawn.sum()))
    drawn[rest[:more]] = True
    return drawn
