"""Score the places of a map: squares side by side, read block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.geo.labels.labelled_mask import LabelledMask
from co2s_cli.geo.legend import STEPS
from co2s_cli.geo.polygons.class_raster import ByteReader, byte_reader
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.progress import Progress
from co2s_cli.suggestions.places import PlaceLattice
from co2s_cli.tiling import Window, spans

_BLOCK_PIXELS = 2**22
"""Pixels of each raster that are held at a time."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlaceScores:
    """Figures of every place, each (rows, columns) of places."""

    free: NDArray[np.bool_]
    """True where every pixel has a class and none is labelled."""
    class_ids: NDArray[np.uint8]
    """The most frequent class of the map; of equally frequent ones the lowest id."""
    uncertainty: Scores
    """Mean of 1 - confidence; any number where a place is not free."""
    disagreement: Scores | None
    """Mean distance of the students; None where there is one alone."""

    def rated(self) -> tuple[Scores, NDArray[np.bool_]]:
        """How much labels would teach, -inf where a place is not free, and True where that is for disagreement.

        Each measure counts as a multiple of its mean over the free places, so that both are of equal weight, and of
        the two the larger one counts.
        """
        unsure = _relative(self.uncertainty, self.free)
        apart = np.zeros_like(unsure) if self.disagreement is None else _relative(self.disagreement, self.free)
        return np.where(self.free, np.maximum(unsure, apart), -np.inf), apart > unsure


def _relative(measure: Scores, free: NDArray[np.bool_]) -> Scores:
    mean = measure[free].mean() if free.any() else 0.0
    return measure / mean if mean > 0 else np.zeros_like(measure)


def score_places(
    rasters: Mapping[str, Path], lattice: PlaceLattice, *, labelled: LabelledMask | None, progress: Progress
) -> PlaceScores:
    """Score all places of a map.

    Args:
        rasters: The planes of `Opinions` by name; disagreement where there is one.
        lattice: The places.
        labelled: What is labelled already.
        progress: Told of every row of places.
    """
    names = [name for name in (CLASS, CONFIDENCE, DISAGREEMENT) if name in rasters]
    side, divisor = lattice.side, STEPS * lattice.side**2
    progress.start("scoring", lattice.rows, "row of places")
    scored: list[_PlaceRow] = []
    with contextlib.ExitStack() as stack:
        readers = {name: stack.enter_context(byte_reader(str(rasters[name]))) for name in names}
        for row in range(lattice.rows):
            scored.append(_score_row(readers, row * side, _PlaceRow.empty(lattice.cols, side), labelled))
            progress.advance()
    progress.close()
    return PlaceScores(
        free=np.stack([one_row.pixels == side**2 for one_row in scored]),
        class_ids=np.stack([one_row.class_ids for one_row in scored]),
        uncertainty=1 - np.stack([one_row.sums[CONFIDENCE] for one_row in scored]) / divisor,
        disagreement=np.stack([one_row.sums[DISAGREEMENT] for one_row in scored]) / divisor
        if DISAGREEMENT in rasters
        else None,
    )


@dataclass(slots=True)
class _PlaceRow:
    """Sums over the places of one row, each (columns of places)."""

    side: int
    pixels: NDArray[np.int64]
    """Pixels that have a class and are not labelled."""
    class_ids: NDArray[np.uint8]
    counts: NDArray[np.int64]
    """(columns of places, 256) pixels by class."""
    sums: dict[str, NDArray[np.int64]]
    """Sums of steps by raster."""

    @classmethod
    def empty(cls, cols: int, side: int) -> _PlaceRow:
        zeros = np.zeros(cols, np.int64)
        sums = {name: zeros.copy() for name in (CONFIDENCE, DISAGREEMENT)}
        return cls(side, zeros, zeros.astype(np.uint8), np.zeros((cols, 256), np.int64), sums)

    def summed(self, values: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """Sums over places of values (h, columns of pixels)."""
        total: NDArray[np.int64] = values.reshape(len(values), -1, self.side).sum(axis=(0, 2), dtype=np.int64)
        return total

    def count(self, labels: NDArray[np.uint8]) -> None:
        """Count class ids (h, columns of pixels)."""
        keys = np.repeat(256 * np.arange(len(self.counts)), self.side) + labels
        self.counts += np.bincount(keys.ravel(), minlength=self.counts.size).reshape(self.counts.shape)


def _score_row(
    readers: Mapping[str, ByteReader], top: int, place_row: _PlaceRow, labelled: LabelledMask | None
) -> _PlaceRow:
    """Read the row of places that begins at pixel row `top`, some pixel rows at a time."""
    side, width = place_row.side, place_row.side * len(place_row.pixels)
    for first, last in spans(side, max(1, min(side, _BLOCK_PIXELS // width))):
        window = Window(top + first, 0, last - first, width)
        labels = readers[CLASS].read(window)
        free = labels != IGNORE
        if labelled is not None:
            free &= ~labelled.read(window)
        place_row.pixels += place_row.summed(free)
        place_row.count(labels)
        for name in readers.keys() - {CLASS}:
            place_row.sums[name] += place_row.summed(readers[name].read(window))
    place_row.class_ids = place_row.counts[:, :IGNORE].argmax(axis=1).astype(np.uint8)
    place_row.counts = place_row.counts[:0]  # 2 kB a place, no longer needed
    return place_row
