"""Boundary F-score: how many border pixels of each class have one of the same class near them on the other map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Borders = NDArray[np.int64]
"""(4, 256) by class: border pixels of the truth, those matched on the map; of the map, those matched in the truth."""

Bits = NDArray[np.unsignedinteger[Any]]
"""Sets of classes, one bit each."""

_BITS = 64
"""Classes whose borders are grown at once, one bit each."""


def reach(tolerance: float) -> int:
    """Pixels around a place that decide about its border and what matches it."""
    return int(tolerance) + 1


def borders(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    known: NDArray[np.bool_],
    core: tuple[slice, slice],
    tolerance: float,
) -> Borders:
    """Counts in the part `core` of two label maps (h, w); counts of parts add up.

    Where `core` is framed by `reach(tolerance)` pixels, as far as the maps go, the parts' sum is the whole's count.

    A border pixel is a known one with a known neighbour, above, below, left or right, of another class: where
    nothing is known there is no border. It is matched where the other map has a border pixel of the same class
    within `tolerance` pixels between centres.
    """
    edges = [edge(labels, known) for labels in (truth, predicted)]
    counts = np.zeros((4, 256), np.int64)
    maps = list(zip((truth, predicted), edges, strict=True))
    present = np.union1d(*(np.flatnonzero(np.bincount(labels[on], minlength=256)) for labels, on in maps))
    for first in range(0, len(present), _BITS):
        bits = _as_bits(present[first : first + _BITS])
        marked = [np.where(on, bits[labels], bits.dtype.type(0)) for labels, on in maps]
        for own, other, row in ((0, 1, 0), (1, 0, 2)):
            mine = marked[own][core]
            classes = maps[own][0][core]
            met = (mine & _grown(marked[other], tolerance)[core]) != 0
            counts[row] += np.bincount(classes[mine != 0], minlength=256)
            counts[row + 1] += np.bincount(classes[met], minlength=256)
    return counts


def edge(labels: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where (h, w) a known pixel has a known neighbour of another class."""
    found = np.zeros(labels.shape, np.bool_)
    for one, other in (((slice(1, None),), (slice(None, -1),)), ((..., slice(1, None)), (..., slice(None, -1)))):
        differs = (labels[one] != labels[other]) & known[one] & known[other]
        found[one] |= differs
        found[other] |= differs
    return found


@dataclass(frozen=True, slots=True)
class BoundaryScore:
    """What border counts say of one class; shares in [0, 1], 0 where there is nothing to match."""

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
    """The score of a class."""
    true, found, drawn, right = (int(value) for value in counts[:, class_id])
    precision, recall = right / max(drawn, 1), found / max(true, 1)
    total = precision + recall
    return BoundaryScore(precision, recall, 2 * precision * recall / total if total else 0.0, true, drawn)


def _as_bits(classes: NDArray[np.intp]) -> Bits:
    """(256) one bit for each of the classes, none for the others; in as few bytes as that takes."""
    size = next(size for size in (8, 16, 32, 64) if size >= len(classes))
    table = np.zeros(256, np.uint64)
    table[classes] = np.uint64(1) << np.arange(len(classes), dtype=np.uint64)
    return table.astype(f"uint{size}")


def _grown(marked: Bits, tolerance: float) -> Bits:
    """The bits (h, w) that are set anywhere in a disk around each pixel."""
    height, width = marked.shape
    grown, wide, half = np.zeros_like(marked), marked.copy(), 0
    for down in range(int(tolerance), -1, -1):  # the disk's chords, from the short outer ones to the diameter
        while half < math.floor(math.sqrt(tolerance**2 - down**2)):
            half += 1
            if half < width:
                wide[:, half:] |= marked[:, :-half]
                wide[:, :-half] |= marked[:, half:]
        if down < height:
            grown[down:] |= wide[: height - down]
            grown[: height - down] |= wide[down:]
    return grown
