"""The second pass of pseudo-labelling: turn finished rasters of candidates into labels, strip by strip."""

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
from co2s_cli.inference.names import CLASS, CONFIDENCE, DISAGREEMENT
from co2s_cli.pseudo.cut import REASONS, CandidateStrip, CutRule, LabelCounts, LevelCounts, add_levels, label_layers
from co2s_cli.pseudo.names import LABELS, MASK, WEIGHTS
from co2s_cli.pseudo.specks import large_regions
from co2s_cli.resources import resident
from co2s_cli.tiling import Window, spans

_STRIP_PIXELS = 1_000_000
"""Approximate number of pixels of a strip."""

_PIXEL_BYTES = 11
"""Bytes of a pixel in all rasters that are read or written at the same time, labels by hand and truth included."""

SMALLEST_CACHE = 32_000_000
"""Bytes of GDAL's block cache if memory is short; blocks are then decoded several times."""


@dataclass(frozen=True, slots=True)
class SceneCandidates:
    """The rasters of candidates of one scene, its labels by hand and its truth."""

    paths: Mapping[str, Path]
    """Rasters by name: class, confidence and, for two students, disagreement."""
    grid: Grid
    human: Labels | None = None
    """Labels by hand, which replace pseudo-labels; None if there are none."""
    truth: Labels | None = None
    """Labels by which pseudo-labels are judged; None if there are none."""

    @property
    def strips(self) -> list[tuple[int, int]]:
        """Rows of each strip: first, past the last."""
        return spans(self.grid.height, max(1, min(BLOCK, _STRIP_PIXELS // self.grid.width)))

    def cache(self, limit: int) -> int:
        """Bytes of block cache for a row of blocks of every raster, less if `limit`, bytes of the process, is short."""
        free = max(0, limit - resident())
        return max(SMALLEST_CACHE, min(int(self.grid.width * BLOCK * _PIXEL_BYTES * 1.25), free // 2))

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenCandidates]:
        """Open readers of all rasters, for one thread."""
        with contextlib.ExitStack() as stack:
            readers = {name: stack.enter_context(band_reader(str(path))) for name, path in self.paths.items()}
            human, truth = (
                None if labels is None else stack.enter_context(labels.reader()) for labels in (self.human, self.truth)
            )
            yield OpenCandidates(readers, self.grid.width, human, truth)


@dataclass(frozen=True, slots=True)
class OpenCandidates:
    """Open readers of a scene's rasters, of its labels by hand and of its truth."""

    readers: Mapping[str, BandReader]
    """Readers of the candidates' rasters by name."""
    width: int
    """Columns of the scene."""
    human: LabelReader | None
    truth: LabelReader | None

    def candidates(self, top: int, bottom: int) -> CandidateStrip:
        """Rows `top` … `bottom` - 1 of candidates and confidences only."""
        return CandidateStrip(self.readers[CLASS].rows(top, bottom), self.readers[CONFIDENCE].rows(top, bottom))

    def all(self, top: int, bottom: int) -> CandidateStrip:
        """Rows `top` … `bottom` - 1 of all rasters."""
        window = Window(top, 0, bottom - top, self.width)
        disagreement = self.readers.get(DISAGREEMENT)
        return self.candidates(top, bottom)._replace(
            disagreement=None if disagreement is None else disagreement.rows(top, bottom),
            human=None if self.human is None else self.human.read(window),
            truth=None if self.truth is None else self.truth.read(window),
        )


def count_levels(scene: SceneCandidates, levels: LevelCounts, *, limit: int, step: Callable[[int], None]) -> None:
    """Count the candidates of a scene into `levels`, by class and confidence; `step` gets the rows of each strip."""
    with environment(scene.cache(limit)), scene.open() as opened:
        for top, bottom in scene.strips:
            strip = opened.candidates(top, bottom)
            add_levels(levels, strip.candidate, strip.confidence)
            step(bottom - top)


@dataclass(frozen=True, slots=True)
class Labeller:
    """Makes and writes the pseudo-labels of scenes by one rule."""

    cut: CutRule
    classes: ClassMap
    tags: Mapping[str, str]
    """Tags of every raster that is written."""
    creation: Mapping[str, str]
    """Options of GDAL's COG driver."""
    limit: int
    """Bytes of memory that the process may take."""

    def write(self, scene: SceneCandidates, outputs: Mapping[str, Path], step: Callable[[int], None]) -> LabelCounts:
        """Write labels, mask of reasons and weights of a scene to the paths `outputs` by name; the counts of pixels."""
        total = LabelCounts.none(len(self.classes))
        with (
            environment(scene.cache(self.limit)),
            scene.open() as opened,
            self._writers(scene.grid, outputs) as writers,
        ):
            for (top, bottom), (sure, is_large) in zip(scene.strips, self._thresholded(scene, opened), strict=True):
                strip = opened.all(top, bottom)
                layers = label_layers(strip, sure, is_large, self.cut)
                for name, writer in writers.items():
                    writer.write(top, layers[name])
                total = total.plus(LabelCounts.of(strip, layers[MASK], (sure != IGNORE) & is_large, len(self.classes)))
                step(bottom - top)
        return total

    @contextlib.contextmanager
    def _writers(self, grid: Grid, outputs: Mapping[str, Path]) -> Iterator[dict[str, RasterWriter]]:
        """A writer for each raster by name; the raster of labels appears last."""
        layers = {LABELS: class_layer(self.classes), MASK: class_layer(REASONS), WEIGHTS: fraction_layer("weight")}
        with contextlib.ExitStack() as stack:
            yield {
                name: stack.enter_context(
                    raster(outputs[name], grid=grid, layer=layer, tags=self.tags, creation=self.creation)
                )
                for name, layer in layers.items()
            }

    def _thresholded(
        self, scene: SceneCandidates, opened: OpenCandidates
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """For each strip the candidates that reach their threshold, and True where their region is large enough."""
        strips = scene.strips

        def read(index: int) -> NDArray[np.uint8]:
            return opened.candidates(*strips[index]).above_threshold(self.cut.thresholds)

        if self.cut.min_area > 1:
            yield from large_regions(len(strips), read, self.cut.min_area)
            return
        for index in range(len(strips)):
            sure = read(index)
            yield sure, np.ones(sure.shape, np.bool_)
