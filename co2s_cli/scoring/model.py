"""Counts of a model against labelled areas: each area is mapped into a file, then counted like any other map."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.roles import Area
from co2s_cli.progress import SILENT, Progress
from co2s_cli.scoring import streamed
from co2s_cli.scoring.area_map import AreaMapper
from co2s_cli.scoring.counts import IDS, CountRules, MapCounts
from co2s_cli.scoring.matrix import Confusion, confusion
from co2s_cli.scoring.validation import area_parts
from co2s_cli.tiling import Window


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """Counts of a model against the truth."""

    tally: MapCounts
    """Counts of the fused map."""
    students: dict[str, Confusion]
    """Confusion matrix (IGNORE, IGNORE) of each student's own map, by name."""


def count_model(
    mapper: AreaMapper, areas: Sequence[Area], table: NDArray[np.uint8], rules: CountRules, progress: Progress = SILENT
) -> ModelCounts:
    """Counts over all areas; `table` (256,) maps the class ids of the labels to those of the counts."""
    total = ModelCounts(
        MapCounts.empty(), {name: np.zeros((IGNORE, IGNORE), np.int64) for name in mapper.model.students}
    )
    progress.start("map", sum(len(area_parts(area, whole=mapper.whole)) for area in areas), "part")
    for area in areas:
        with tempfile.TemporaryDirectory(prefix="co2s.") as folder, area.labels.reader() as labels:
            truth = streamed.Recoded(_AreaReader(labels, area.window), table)
            counts = _count_area(mapper, area, truth, rules, folder=Path(folder), progress=progress)
        students = {name: matrix + counts.students[name] for name, matrix in total.students.items()}
        total = ModelCounts(total.tally.plus(counts.tally), students)
    return total


def _count_area(
    mapper: AreaMapper, area: Area, truth: streamed.ByteReader, rules: CountRules, *, folder: Path, progress: Progress
) -> ModelCounts:
    """Counts of one area; its map is stored in `folder` until it has been counted."""
    predicted, confidence = (_AreaFile.blank(folder / name, area.window) for name in ("class", "confidence"))
    students = {name: np.zeros((IGNORE, IGNORE), np.int64) for name in mapper.model.students}
    for part in area_parts(area, whole=mapper.whole):
        progress.advance()
        window = _relative(part.window, area.window)
        labels = truth.read(window)
        if (labels == IGNORE).all():
            continue  # without labels there is nothing to compare a map with
        area_map = mapper.make(part)
        predicted.write(window, area_map.predicted)
        confidence.write(window, area_map.confidence)
        students = {name: students[name] + confusion(labels, ids, IGNORE) for name, ids in area_map.students.items()}
    whole = Window(0, 0, area.window.height, area.window.width)
    pair = streamed.MapAndTruth(truth, predicted, confidence, (whole.height, whole.width))
    return ModelCounts(streamed.counts(pair, whole, rules, SILENT), students)


@dataclass(frozen=True, slots=True)
class _AreaReader:
    """Reads a scene by windows that are relative to the upper left corner of an area."""

    reader: streamed.ByteReader
    area: Window

    def read(self, window: Window) -> IDS:
        """The values (h, w) in a window of the area."""
        return self.reader.read(
            Window(self.area.row + window.row, self.area.col + window.col, window.height, window.width)
        )


@dataclass(frozen=True, slots=True)
class _AreaFile:
    """One byte for each pixel of an area, in a memory-mapped file, as an area may be larger than the memory.

    The file holds the complement of each byte: parts that are never written are zeros, which take no disk space and
    read as `IGNORE`.
    """

    complement: IDS

    @classmethod
    def blank(cls, path: Path, area: Window) -> _AreaFile:
        """A new file in which every pixel is `IGNORE`."""
        zeros: Any = np.memmap(path, np.uint8, "w+", shape=(area.height, area.width))
        return cls(zeros)

    def write(self, window: Window, values: IDS) -> None:
        """Store `values` (h, w) in a window of the area."""
        self.complement[window.slices] = ~values

    def read(self, window: Window) -> IDS:
        """The values (h, w) in a window of the area."""
        return np.invert(self.complement[window.slices])


def _relative(window: Window, area: Window) -> Window:
    """A window of a scene, relative to the upper left corner of an area."""
    return Window(window.row - area.row, window.col - area.col, window.height, window.width)
