"""Write a made-up scene, its labels and a data.yaml to train on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from co2s_cli import __version__
from co2s_cli.classes import IGNORE
from co2s_cli.config.sample import SampleConfig
from co2s_cli.data.landscape import BANDS, GROUND_RESOLUTION, TILE, Landscape
from co2s_cli.data.landscape.annotator import Plot, Survey
from co2s_cli.data.landscape.label_scheme import LabelScheme
from co2s_cli.data.landscape.recipe import data_yaml
from co2s_cli.errors import OutputError
from co2s_cli.files import atomic_file, check_output
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write.raster import class_layer, image, north_up, raster
from co2s_cli.geo.write.vector import write_outlines
from co2s_cli.progress import SILENT, Progress
from co2s_cli.resources import cores
from co2s_cli.tiling import Window

NAMES = ("scene.tif", "labels.tif", "few.tif", "few.gpkg", "data.yaml")
SCENE, LABELS, FEW, FEW_POLYGONS, DATA = NAMES
_THREADS = 4
"""Threads that generate blocks; more are not faster, since half of the work holds Python's global lock."""


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Files and figures of a sample."""

    scene: Path
    labels: Path
    few: Path
    """Raster with labels of a few percent of the pixels."""
    few_polygons: Path
    data: Path
    shares: dict[str, float]
    """Share of each class among the labelled pixels of `labels`."""
    few_share: float
    """Share of the scene that `few` labels."""
    polygons: int
    val_windows: list[Window]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return self.scene, self.labels, self.few, self.few_polygons, self.data


@dataclass(frozen=True, slots=True)
class _Task:
    """Settings, classes and survey of one sample."""

    settings: SampleConfig
    scheme: LabelScheme
    survey: Survey

    def path(self, name: str) -> Path:
        """Path of a file in the folder of the sample."""
        return self.settings.folder / name

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the rasters that state their origin."""
        return {"co2s_version": __version__, "made_up_landscape_seed": str(self.settings.seed)}

    @property
    def grid(self) -> Grid:
        """A place in UTM zone 31, 32 or 33 north by the seed, so that scenes of different seeds may differ in zone."""
        seed, size = self.settings.seed, self.settings.size
        west, north = 400_000 + 1000 * (seed * 37 % 150), 5_350_000 + 1000 * (seed * 53 % 300)
        return north_up(size, size, epsg=32631 + seed % 3, west=west, north=north, resolution=GROUND_RESOLUTION)


@dataclass(frozen=True, slots=True)
class _Observations:
    """Plots and class counts, collected while a scene is written."""

    plots: list[Plot] = field(default_factory=list)
    """Plots that may become the few labels."""
    counts: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    """Pixels of each class, by row and column of the survey's cells."""


def run(settings: SampleConfig, *, progress: Progress = SILENT) -> SampleResult:
    """Write the files of a sample into `settings.folder`.

    Raises:
        ConfigError: classes that the landscape does not have.
        OutputError: outputs that exist, or that cannot be written.
    """
    task = _Task(settings, LabelScheme.parse(settings.classes), Survey(settings.seed, settings.size))
    _check_outputs(task)
    with environment():
        observed = _write_scene(task, progress)
        val = task.survey.validation(observed.counts)
        plots = [plot for plot in observed.plots if not any(_touch(plot.window, block) for block in val)]
        polygons = _write_few(task, plots)
    with atomic_file(task.path(DATA)) as temporary:  # last: if it exists, all files that it names exist
        temporary.write_text(data_yaml(settings, task.scheme.classes, val), encoding="utf-8")
    total = np.sum(list(observed.counts.values()), axis=0)
    return SampleResult(
        scene=task.path(SCENE),
        labels=task.path(LABELS),
        few=task.path(FEW),
        few_polygons=task.path(FEW_POLYGONS),
        data=task.path(DATA),
        shares=dict(zip(task.scheme.classes.names, (total / max(total.sum(), 1)).tolist(), strict=True)),
        few_share=sum(int((plot.labels != IGNORE).sum()) for plot in plots) / settings.size**2,
        polygons=polygons,
        val_windows=val,
    )


def _check_outputs(task: _Task) -> None:
    folder = task.settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
    for name in NAMES:
        check_output(task.path(name), overwrite=task.settings.overwrite)


def _write_scene(task: _Task, progress: Progress) -> _Observations:
    """Write scene and labels strip by strip; returns what few labels and validation blocks are chosen from."""
    settings, classes = task.settings, task.scheme.classes
    land = Landscape(settings.seed, settings.size, settings.bands, settings.dtype, settings.tilt)
    bands, observed = BANDS[: settings.bands], _Observations()
    starts = range(0, settings.size, TILE)
    progress.start("landscape", len(starts) ** 2, "tile")
    with (
        image(task.path(SCENE), grid=task.grid, bands=bands, dtype=settings.dtype, nodata=0, tags=task.tags) as scene,
        raster(task.path(LABELS), grid=task.grid, layer=class_layer(classes), tags=task.tags) as labels,
        ThreadPoolExecutor(min(_THREADS, cores(1))) as pool,
    ):
        for row in starts:
            height = min(TILE, settings.size - row)
            windows = [Window(row, col, height, min(TILE, settings.size - col)) for col in starts]
            strip = np.empty((height, settings.size), dtype=np.uint8)
            for window, (pixels, ids) in zip(windows, pool.map(land.block, windows), strict=True):
                scene.write(row, window.col, pixels)
                window_labels = strip[:, window.col : window.right]
                task.scheme.table.take(ids, out=window_labels)
                _observe(observed, task.survey, window, window_labels, len(classes))
                progress.advance()
            labels.write(row, strip)
    progress.close()
    return observed


def _observe(observed: _Observations, survey: Survey, window: Window, labels: NDArray[np.uint8], classes: int) -> None:
    """Add the plots and the class counts of a window."""
    observed.plots.extend(survey.plots(window, labels))
    side = survey.cell
    for row in range(0, window.height, side):
        for col in range(0, window.width, side):
            cell = labels[row : row + side, col : col + side]
            counts = np.bincount(cell.ravel(), minlength=256)[:classes]
            observed.counts[(window.row + row) // side, (window.col + col) // side] = counts


def _write_few(task: _Task, plots: list[Plot]) -> int:
    """Write the few labels as raster and as polygons; returns the number of polygons."""
    classes, size = task.scheme.classes, task.settings.size
    with raster(task.path(FEW), grid=task.grid, layer=class_layer(classes), tags=task.tags) as few:
        for row in range(0, size, TILE):
            rows = np.full((min(TILE, size - row), size), IGNORE, dtype=np.uint8)
            for window, labels in ((plot.window, plot.labels) for plot in plots):
                if row <= window.row < row + TILE:  # a plot lies in one cell, and a cell in one strip
                    rows[window.row - row : window.bottom - row, window.col : window.right] = labels
            few.write(row, rows)
    patches = ((plot.window.row, plot.window.col, plot.labels) for plot in plots)
    return write_outlines(task.path(FEW_POLYGONS), patches, grid=task.grid, classes=classes)


def _touch(a: Window, b: Window) -> bool:
    return a.row < b.bottom and b.row < a.bottom and a.col < b.right and b.col < a.right
