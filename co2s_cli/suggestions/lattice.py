"""Score the places of a map, which are squares side by side; rasters are read block by block."""

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
from co2s_cli.geo.polygons.class_raster import ByteRasterReader, byte_reader
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.progress import Progress
from co2s_cli.suggestions.places import PlaceLattice
from co2s_cli.tiling import Window, spans

_BLOCK_PIXELS = 2**22
"""Pixels of each raster that are in memory at a time."""

Scores = NDArray[np.float64]
"""(rows of places, columns of places) a figure of each place."""


@dataclass(frozen=True, slots=True)
class PlaceScores:
    """Figures of every place; all arrays are (rows of places, columns of places)."""

    free: NDArray[np.bool_]
    """True where every pixel of a place has a class on the map and none is labelled."""
    class_ids: NDArray[np.uint8]
    """Most frequent class of the map in a place; of equally frequent classes the lowest id."""
    uncertainty: Scores
    """Mean of 1 - confidence over a place; arbitrary where the place is not free."""
    disagreement: Scores | None
    """Mean distance of the students over a place; None for a model of one student."""

    def ratings(self) -> tuple[Scores, NDArray[np.bool_]]:
        """Rating of each place, -inf where it is not free, and True where the rating comes from disagreement.

        Uncertainty and disagreement are both divided by their mean over the free places, which gives them equal weight;
        the rating is the larger of the two.
        """
        uncertainty = _relative(self.uncertainty, self.free)
        disagreement = (
            np.zeros_like(uncertainty) if self.disagreement is None else _relative(self.disagreement, self.free)
        )
        return np.where(self.free, np.maximum(uncertainty, disagreement), -np.inf), disagreement > uncertainty


def _relative(measure: Scores, free: NDArray[np.bool_]) -> Scores:
    """`measure` divided by its mean over the free places; 0 if that mean is 0."""
    mean = measure[free].mean() if free.any() else 0.0
    return measure / mean if mean > 0 else np.zeros_like(measure)


def score_places(
    rasters: Mapping[str, Path], lattice: PlaceLattice, *, labelled: LabelledMask | None, progress: Progress
) -> PlaceScores:
    """Score all places of a map.

    Args:
        rasters: Rasters of the map by name: class, confidence and, for two students, disagreement.
        lattice: The places.
        labelled: Mask of the pixels that are labelled already; None if there are no labels.
        progress: Advanced by one for every row of places.
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
        free=np.stack([place_row.pixels == side**2 for place_row in scored]),
        class_ids=np.stack([place_row.class_ids for place_row in scored]),
        uncertainty=1 - np.stack([place_row.sums[CONFIDENCE] for place_row in scored]) / divisor,
        disagreement=np.stack([place_row.sums[DISAGREEMENT] for place_row in scored]) / divisor
        if DISAGREEMENT in rasters
        else None,
    )


@dataclass(slots=True)
class _PlaceRow:
    """Sums over each place of one row of places."""

    side: int
    """Side of a place in pixels."""
    pixels: NDArray[np.int64]
    """(columns of places) number of pixels that have a class and are not labelled."""
    class_ids: NDArray[np.uint8]
    """(columns of places) most frequent class."""
    counts: NDArray[np.int64]
    """(columns of places, 256) number of pixels by class."""
    sums: dict[str, NDArray[np.int64]]
    """Name of a raster → sums (columns of places) of its stored bytes."""

    @classmethod
    def empty(cls, cols: int, side: int) -> _PlaceRow:
        """Zeros for `cols` places."""
        zeros = np.zeros(cols, np.int64)
        sums = {name: zeros.copy() for name in (CONFIDENCE, DISAGREEMENT)}
        return cls(side, zeros, zeros.astype(np.uint8), np.zeros((cols, 256), np.int64), sums)

    def summed(self, values: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """(columns of places) sums of `values` (h, columns of pixels) over each place."""
        total: NDArray[np.int64] = values.reshape(len(values), -1, self.side).sum(axis=(0, 2), dtype=np.int64)
        return total

    def count(self, labels: NDArray[np.uint8]) -> None:
        """Add class ids `labels` (h, columns of pixels) to `counts`."""
        keys = np.repeat(256 * np.arange(len(self.counts)), self.side) + labels
        self.counts += np.bincount(keys.ravel(), minlength=self.counts.size).reshape(self.counts.shape)


def _score_row(
    readers: Mapping[str, ByteRasterReader], top: int, place_row: _PlaceRow, labelled: LabelledMask | None
) -> _PlaceRow:
    """Fill `place_row`, the row of places that begins at pixel row `top`, reading some rows of pixels at a time."""
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
    place_row.counts = place_row.counts[:0]  # frees 2 kB a place
    return place_row
