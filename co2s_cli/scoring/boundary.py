"""Boundary F-score: shares of border pixels that are near a border pixel of the same class on the other map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Borders = NDArray[np.int64]
"""Counts (4, 256) by class id: border pixels of the truth, those of them matched on the map, border pixels of the map,
those of them matched in the truth."""

Bits = NDArray[np.unsignedinteger[Any]]
"""A set of classes at each pixel, one bit for each class."""

_BITS = 64
"""Number of classes whose borders are dilated at once, one bit for each."""


def frame_width(tolerance: float) -> int:
    """Width in pixels of the frame around a block that its border pixels and their matches depend on."""
    return int(tolerance) + 1


def borders(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    known: NDArray[np.bool_],
    core: tuple[slice, slice],
    tolerance: float,
) -> Borders:
    """Border counts inside `core` of two label maps (h, w); `known` (h, w) is False at pixels to ignore.

    A border pixel is a known pixel with a known neighbour (above, below, left or right) of another class; next to
    ignored pixels there is no border. It is matched if the other map has a border pixel of the same class within
    `tolerance` pixels, measured between pixel centres.

    Counts of blocks add up to those of the whole map, if the maps extend `frame_width(tolerance)` pixels beyond each
    `core`, or to the edge of the whole map.
    """
    masks = [border_mask(labels, known) for labels in (truth, predicted)]
    counts = np.zeros((4, 256), np.int64)
    maps = list(zip((truth, predicted), masks, strict=True))
    present = np.union1d(*(np.flatnonzero(np.bincount(labels[mask], minlength=256)) for labels, mask in maps))
    for first in range(0, len(present), _BITS):
        bits = _class_bits(present[first : first + _BITS])
        border_bits = [np.where(mask, bits[labels], bits.dtype.type(0)) for labels, mask in maps]
        for index, other, row in ((0, 1, 0), (1, 0, 2)):
            core_bits = border_bits[index][core]
            classes = maps[index][0][core]
            matched = (core_bits & _dilated(border_bits[other], tolerance)[core]) != 0
            counts[row] += np.bincount(classes[core_bits != 0], minlength=256)
            counts[row + 1] += np.bincount(classes[matched], minlength=256)
    return counts


def border_mask(labels: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask (h, w) of border pixels: True where a known pixel has a known neighbour of another class."""
    mask = np.zeros(labels.shape, np.bool_)
    for after, before in (((slice(1, None),), (slice(None, -1),)), ((..., slice(1, None)), (..., slice(None, -1)))):
        differs = (labels[after] != labels[before]) & known[after] & known[before]
        mask[after] |= differs
        mask[before] |= differs
    return mask


@dataclass(frozen=True, slots=True)
class BoundaryScore:
    """Boundary score of one class; shares in [0, 1], 0 if there is no border pixel."""

    precision: float
    """Share of the map's border pixels that are matched."""
    recall: float
    """Share of the truth's border pixels that are matched."""
    f1: float
    true: int
    """Border pixels of the truth."""
    drawn: int
    """Border pixels of the map."""


def boundary_score(counts: Borders, class_id: int) -> BoundaryScore:
    """The boundary score of class `class_id`."""
    true, true_matched, drawn, drawn_matched = (int(value) for value in counts[:, class_id])
    precision, recall = drawn_matched / max(drawn, 1), true_matched / max(true, 1)
    total = precision + recall
    return BoundaryScore(precision, recall, 2 * precision * recall / total if total else 0.0, true, drawn)


def _class_bits(classes: NDArray[np.intp]) -> Bits:
    """Table (256,) from class id to a bit of its own, 0 for other ids; of the smallest unsigned type that suffices."""
    size = next(size for size in (8, 16, 32, 64) if size >= len(classes))
    table = np.zeros(256, np.uint64)
    table[classes] = np.uint64(1) << np.arange(len(classes), dtype=np.uint64)
    return table.astype(f"uint{size}")


def _dilated(bits: Bits, tolerance: float) -> Bits:
    """Bits (h, w) that are set anywhere in the disk of radius `tolerance` around each pixel."""
    height, width = bits.shape
    dilated, widened, half_chord = np.zeros_like(bits), bits.copy(), 0
    for offset in range(int(tolerance), -1, -1):  # rows of the disk, from the short outer chords to the diameter
        while half_chord < math.floor(math.sqrt(tolerance**2 - offset**2)):
            half_chord += 1
            if half_chord < width:
                widened[:, half_chord:] |= bits[:, :-half_chord]
                widened[:, :-half_chord] |= bits[:, half_chord:]
        if offset < height:
            dilated[offset:] |= widened[: height - offset]
            dilated[: height - offset] |= widened[offset:]
    return dilated
