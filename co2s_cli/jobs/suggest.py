"""Suggest places of a scene to label: map it, score square places by uncertainty and disagreement, write boxes."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.config.suggest import SuggestConfig
from co2s_cli.errors import Co2sError, InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.class_raster import byte_reader
from co2s_cli.geo.write.boxes import write_boxes
from co2s_cli.inference.map_setup import MapContext
from co2s_cli.inference.mapping import make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.names import CLASS, DISAGREEMENT
from co2s_cli.inference.opinions import Opinions
from co2s_cli.inference.targets import Target, open_scene
from co2s_cli.jobs.scenes import run_each
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import SILENT, Progress
from co2s_cli.suggestions.choice import MIN_DISTANCE, choose
from co2s_cli.suggestions.lattice import PlaceScores, score_places
from co2s_cli.suggestions.places import PlaceLattice
from co2s_cli.suggestions.request import check_boxes, open_labelled
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

UNCERTAINTY = "uncertainty"
"""Reason for choosing a place, and name of the measure behind it; `DISAGREEMENT` is the other one."""

_ONE_STUDENT = "uncertainty (the model has one student)"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One place, and why it was chosen."""

    row: int
    """First pixel row."""
    col: int
    """First pixel column."""
    reason: str
    map_class: str
    """The most frequent class of the map in the place."""
    guesses: dict[str, str]
    """Student → the most frequent class of that student alone; empty for a model with one student."""
    uncertainty: float
    """Mean of 1 - confidence over the place."""
    disagreement: float | None
    """Mean distance of the students over the place; None for a model with one student."""


@dataclass(frozen=True, slots=True)
class SuggestResult:
    """The suggested places, the most useful first, and the files."""

    model: Path
    out: Path
    style: Path
    side: int
    """Side of a place in pixels."""
    places: tuple[Suggestion, ...]


def run(settings: SuggestConfig, progress: Progress = SILENT) -> SuggestResult:
    """Suggest places and write them with their style.

    Raises:
        Co2sError: what is wrong with the settings, the scene, the labels, the model or the output.
        InterruptError: Ctrl-C; finished parts of the map stay for the next run of the same command.
    """
    check_boxes(settings)
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    product = Opinions.of(manifest)
    context = MapContext.of(settings.mapping(), ModelFile(model, manifest), product, progress=progress)
    grid = open_scene(settings.scene, manifest, context.settings).original
    lattice = PlaceLattice.of(settings.size, grid, settings.scene)
    labelled = open_labelled(settings, grid)
    rasters = {plane.name: settings.folder / f"{plane.name}.tif" for plane in product.planes}
    target = Target(settings.scene, rasters[CLASS], {name: path for name, path in rasters.items() if name != CLASS})
    with _folder(settings.folder):
        run_each([target], lambda target: _make_map(context, target), progress)
        scores = score_places(rasters, lattice, labelled=labelled, progress=progress)
        places = _suggested(scores, lattice, settings, rasters=rasters, manifest=manifest)
        style = _write(places, lattice, settings, grid=grid, manifest=manifest)
    _log_summary(settings, places)
    return SuggestResult(model, settings.out, style, lattice.side, places)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """A folder for the map, removed at the end; after an error a map stays, since another --size can reuse it."""
    folder.mkdir(exist_ok=True)
    try:
        yield
    except Co2sError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            log.warning("%s: the map is kept for the next run with this --out; remove it if there will be none", folder)
        raise
    shutil.rmtree(folder)


def _make_map(context: MapContext, target: Target) -> None:
    make_map(context, target)


def _suggested(
    scores: PlaceScores,
    lattice: PlaceLattice,
    settings: SuggestConfig,
    *,
    rasters: Mapping[str, Path],
    manifest: Manifest,
) -> tuple[Suggestion, ...]:
    """The chosen places.

    Raises:
        InputError: no place is all data and unlabelled.
    """
    rated, for_disagreement = scores.ratings()
    choice = choose(rated, scores.class_ids, settings.count)
    if not choice.places:
        unlabelled = f" and without a label of {settings.labels}" if settings.labels else ""
        raise InputError(
            f"{settings.scene}: has no place of {lattice.side} × {lattice.side} pixels that is all data{unlabelled}",
            hint="take a smaller --size"
            + ("; if --labels has a value for unlabelled pixels, name it: --values 0=none" if unlabelled else ""),
        )
    names, one_student = manifest.class_map.names, len(manifest.students) == 1
    suggestions = []
    for place in choice.places:
        row, col = place[0] * lattice.side, place[1] * lattice.side
        disagreement = None if scores.disagreement is None else float(scores.disagreement[place])
        suggestions.append(
            Suggestion(
                row=row,
                col=col,
                reason=_ONE_STUDENT if one_student else DISAGREEMENT if for_disagreement[place] else UNCERTAINTY,
                map_class=names[int(scores.class_ids[place])],
                guesses=_guesses(rasters, Window(row, col, lattice.side, lattice.side), manifest),
                uncertainty=float(scores.uncertainty[place]),
                disagreement=disagreement,
            )
        )
    if choice.distance < MIN_DISTANCE:
        log.warning("some places touch each other: too few free places are left to keep them apart")
    return tuple(suggestions)


def _guesses(rasters: Mapping[str, Path], window: Window, manifest: Manifest) -> dict[str, str]:
    """Student → its most frequent class in a window, "none" if no pixel has a class."""
    guesses = {}
    for student, plane in Opinions.of(manifest).guess_planes.items():
        with byte_reader(str(rasters[plane])) as reader:
            counts = np.bincount(reader.read(window).ravel(), minlength=256)[:IGNORE]
        guesses[student] = manifest.class_map.names[int(counts.argmax())] if counts.any() else "none"
    return guesses


def _write(
    places: Sequence[Suggestion], lattice: PlaceLattice, settings: SuggestConfig, *, grid: Grid, manifest: Manifest
) -> Path:
    """Write the boxes of the places; returns the path of their style."""
    fields: dict[str, NDArray[Any]] = {
        "reason": np.array([place.reason for place in places], object),
        "map_class": np.array([place.map_class for place in places], object),
    }
    for student, plane in Opinions.of(manifest).guess_planes.items():
        fields[plane] = np.array([place.guesses[student] for place in places], object)
    fields[UNCERTAINTY] = np.array([place.uncertainty for place in places]).round(4)
    if len(manifest.students) > 1:
        fields[DISAGREEMENT] = np.array([place.disagreement for place in places], np.float64).round(4)
    corners = np.array([(place.row, place.col) for place in places], np.int64)
    return write_boxes(settings.out, corners, lattice.side, grid=grid, classes=manifest.class_map, fields=fields)


def _log_summary(settings: SuggestConfig, places: Sequence[Suggestion]) -> None:
    if len(places) < settings.count:
        log.warning("%d of %d places: no other place is all data and without labels", len(places), settings.count)
    by_class = Counter(place.map_class for place in places)
    log.info(
        "%d places (%s): fill in `class`, or draw polygons in them, then merge them with your polygons to train on: %s",
        len(places), ", ".join(f"{name} {number}" for name, number in by_class.most_common()), settings.out,
    )  # fmt: skip
