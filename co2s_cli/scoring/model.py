"""A model against labelled areas: each is mapped into a file, then counted like any other map."""

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
from co2s_cli.scoring.validation import pieces
from co2s_cli.tiling import Window


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """What was counted of a model."""

    tally: MapCounts
    """Of the fused map."""
    students: dict[str, Confusion]
    """Of each student alone, (IGNORE, IGNORE)."""


def count_model(
    mapper: AreaMapper, areas: Sequence[Area], table: NDArray[np.uint8], rules: CountRules, progress: Progress = SILENT
) -> ModelCounts:
    """Counts over all areas; `table` (256) replaces the ids of the labels by those to count under."""
    total = ModelCounts(
        MapCounts.empty(), {name: np.zeros((IGNORE, IGNORE), np.int64) for name in mapper.pair.students}
    )
    progress.start("map", sum(len(pieces(area, whole=mapper.whole)) for area in areas), "part")
    for area in areas:
        with tempfile.TemporaryDirectory(prefix="co2s.") as folder, area.labels.reader() as labels:
            truth = streamed.Recoded(_Placed(labels, area.window), table)
            found = _count_area(mapper, area, truth, rules, folder=Path(folder), progress=progress)
        students = {name: matrix + found.students[name] for name, matrix in total.students.items()}
        total = ModelCounts(total.tally.plus(found.tally), students)
    return total


def _count_area(
    mapper: AreaMapper, area: Area, truth: streamed.ByteReader, rules: CountRules, *, folder: Path, progress: Progress
) -> ModelCounts:
    """Counts of one area, whose map is kept in `folder` in the meantime."""
    predicted, sure = (_Kept.blank(folder / name, area.window) for name in ("class", "confidence"))
    students = {name: np.zeros((IGNORE, IGNORE), np.int64) for name in mapper.pair.students}
    for part in pieces(area, whole=mapper.whole):
        progress.advance()
        place = _inside(part.window, area.window)
        known = truth.read(place)
        if (known == IGNORE).all():
            continue  # nothing to compare with: it need not be mapped
        made = mapper.make(part)
        predicted.write(place, made.predicted)
        sure.write(place, made.sure)
        students = {name: students[name] + confusion(known, ids, IGNORE) for name, ids in made.students.items()}
    whole = Window(0, 0, area.window.height, area.window.width)
    pair = streamed.MapAndTruth(truth, predicted, sure, (whole.height, whole.width))
    return ModelCounts(streamed.counts(pair, whole, rules, SILENT), students)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A reader of a scene seen from the corner of an area."""

    reader: streamed.ByteReader
    area: Window

    def read(self, window: Window) -> IDS:
        """(h, w) of a window of the area."""
        return self.reader.read(
            Window(self.area.row + window.row, self.area.col + window.col, window.height, window.width)
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """Bytes of an area in a file: an area may be larger than the memory.

    They are kept as their complement, so that what is never written, and takes no disk, is `IGNORE`.
    """

    complement: IDS

    @classmethod
    def blank(cls, path: Path, area: Window) -> _Kept:
        """Nothing yet."""
        empty: Any = np.memmap(path, np.uint8, "w+", shape=(area.height, area.width))
        return cls(empty)

    def write(self, window: Window, values: IDS) -> None:
        """Keep (h, w) of a window of the area."""
        self.complement[window.slices] = ~values

    def read(self, window: Window) -> IDS:
        """(h, w) of a window of the area."""
        return np.invert(self.complement[window.slices])


def _inside(window: Window, area: Window) -> Window:
    """A window of a scene seen from the corner of an area."""
    return Window(window.row - area.row, window.col - area.col, window.height, window.width)
