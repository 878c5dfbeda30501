"""The second pass of pseudo-labelling: finished rasters of candidates become labels, strip by strip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import LabelReader, Labels
from co2s_cli.geo.read.reader import BandReader, band_reader
from co2s_cli.geo.write.raster import BLOCK, RasterWriter, class_layer, fraction_layer, raster
from co2s_cli.inference.memory import resident
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.pseudo.cut import REASONS, CandidateStrip, CutRule, LabelCounts, LevelCounts, add_levels, label_layers
from co2s_cli.pseudo.names import LABELS, MASK, WEIGHTS
from co2s_cli.pseudo.specks import large
from co2s_cli.tiling import Window, spans

_PIECE = 1_000_000
"""Pixels of a strip, about."""

_PIXEL_BYTES = 11
"""Bytes that a pixel takes in all rasters that are open at once, read or written, human labels and truth included."""

SMALLEST_CACHE = 32_000_000
"""Bytes of block cache where memory is short: rows of blocks are then decoded again and again."""


@dataclass(frozen=True, slots=True)
class SceneCandidates:
    """The candidates of one scene, with the labels that replace them or judge them."""

    paths: Mapping[str, Path]
    """Rasters of class, confidence and, of two students, disagreement."""
    grid: Grid
    human: Labels | None = None
    """Labels by hand, which replace pseudo-labels."""
    truth: Labels | None = None
    """Labels by which pseudo-labels are judged."""

    @property
    def strips(self) -> list[tuple[int, int]]:
        """First and past-the-last row of each strip."""
        return spans(self.grid.height, max(1, min(BLOCK, _PIECE // self.grid.width)))

    def cache(self, limit: int) -> int:
        """Bytes of block cache that keep a row of blocks of every raster, if a `limit` for the process allows."""
        free = max(0, limit - resident())
        return max(SMALLEST_CACHE, min(int(self.grid.width * BLOCK * _PIXEL_BYTES * 1.25), free // 2))

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenCandidates]:
        """Readers of all rasters, for one thread."""
        with contextlib.ExitStack() as stack:
            rows = {name: stack.enter_context(band_reader(str(path))) for name, path in self.paths.items()}
            human, truth = (
                None if labels is None else stack.enter_context(labels.reader()) for labels in (self.human, self.truth)
            )
            yield OpenCandidates(rows, self.grid.width, human, truth)


@dataclass(frozen=True, slots=True)
class OpenCandidates:
    """Readers of a scene's rasters."""

    rows: Mapping[str, BandReader]
    width: int
    human: LabelReader | None
    truth: LabelReader | None

    def candidates(self, top: int, bottom: int) -> CandidateStrip:
        """Candidates and confidences of rows `top` … `bottom`, without the rest."""
        return CandidateStrip(self.rows[CLASS].rows(top, bottom), self.rows[CONFIDENCE].rows(top, bottom))

    def all(self, top: int, bottom: int) -> CandidateStrip:
        """Everything that is known of rows `top` … `bottom`."""
        window = Window(top, 0, bottom - top, self.width)
        disagreement = self.rows.get(DISAGREEMENT)
        return self.candidates(top, bottom)._replace(
            disagreement=None if disagreement is None else disagreement.rows(top, bottom),
            human=None if self.human is None else self.human.read(window),
            truth=None if self.truth is None else self.truth.read(window),
        )


def count_levels(scene: SceneCandidates, levels: LevelCounts, *, limit: int, step: Callable[[int], None]) -> None:
    """Add to `levels` the confidences of a scene's candidates."""
    with environment(scene.cache(limit)), scene.open() as opened:
        for top, bottom in scene.strips:
            strip = opened.candidates(top, bottom)
            add_levels(levels, strip.candidate, strip.confidence)
            step(bottom - top)


@dataclass(frozen=True, slots=True)
class Labeller:
    """How all scenes of a run are cut and written."""

    cut: CutRule
    classes: ClassMap
    tags: Mapping[str, str]
    creation: Mapping[str, str]
    limit: int
    """Bytes of memory that the run may take."""

    def write(self, scene: SceneCandidates, outputs: Mapping[str, Path], step: Callable[[int], None]) -> LabelCounts:
        """Write labels, mask of reasons and weights of a scene to `outputs`; returns the counts."""
        total = LabelCounts.none(len(self.classes))
        with (
            environment(scene.cache(self.limit)),
            scene.open() as opened,
            self._writers(scene.grid, outputs) as writers,
        ):
            for (top, bottom), (sure, is_large) in zip(scene.strips, self._sure(scene, opened), strict=True):
                strip = opened.all(top, bottom)
                written = label_layers(strip, sure, is_large, self.cut)
                for name, writer in writers.items():
                    writer.write(top, written[name])
                total = total.plus(LabelCounts.of(strip, written[MASK], (sure != IGNORE) & is_large, len(self.classes)))
                step(bottom - top)
        return total

    @contextlib.contextmanager
    def _writers(self, grid: Grid, outputs: Mapping[str, Path]) -> Iterator[dict[str, RasterWriter]]:
        """A writer for each raster; the labels appear last."""
        kinds = {LABELS: class_layer(self.classes), MASK: class_layer(REASONS), WEIGHTS: fraction_layer("weight")}
        with contextlib.ExitStack() as stack:
            yield {
                name: stack.enter_context(
                    raster(outputs[name], grid=grid, layer=layer, tags=self.tags, creation=self.creation)
                )
                for name, layer in kinds.items()
            }

    def _sure(
        self, scene: SceneCandidates, opened: OpenCandidates
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Of each strip the candidates that reach their threshold, and True where their region is large enough."""
        strips = scene.strips

        def read(index: int) -> NDArray[np.uint8]:
            return opened.candidates(*strips[index]).sure(self.cut.thresholds)

        if self.cut.min_area > 1:
            yield from large(len(strips), read, self.cut.min_area)
            return
        for index in range(len(strips)):
            sure = read(index)
            yield sure, np.ones(sure.shape, np.bool_)
