"""Find the places of a scene where labels would teach a model most: map it, score its places, choose, write boxes."""

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
from co2s_cli.inference.mapping import MapContext, make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.names import CLASS, DISAGREEMENT
from co2s_cli.inference.opinions import Opinions
from co2s_cli.inference.targets import Target, open_scene
from co2s_cli.jobs.scenes import each
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
"""Reason of a place, and name of its measure; `DISAGREEMENT` is the other one."""

_ALONE = "uncertainty (the model has one student)"


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
    """The same of each student alone; empty where the model has one."""
    uncertainty: float
    """Mean of 1 - confidence."""
    disagreement: float | None
    """Mean distance of the students; None where the model has one."""


@dataclass(frozen=True, slots=True)
class SuggestResult:
    """What was suggested, the most useful place first."""

    model: Path
    out: Path
    style: Path
    side: int
    """Of a place in pixels."""
    places: tuple[Suggestion, ...]


def run(settings: SuggestConfig, progress: Progress = SILENT) -> SuggestResult:
    """Suggest places and write them with their style.

    Raises:
        Co2sError: what is wrong with the settings, the scene, the labels, the model or the output.
        InterruptError: Ctrl-C; what is finished of the map stays for the next run of the same command.
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
        each([target], lambda target: _make_map(context, target), progress)
        scores = score_places(rasters, lattice, labelled=labelled, progress=progress)
        places = _suggested(scores, lattice, settings, rasters=rasters, manifest=manifest)
        style = _write(places, lattice, settings, grid=grid, manifest=manifest)
    _tell(settings, places)
    return SuggestResult(model, settings.out, style, lattice.side, places)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """A folder for the map, which goes at the end; after an error a map stays: another --size needs no other map."""
    folder.mkdir(exist_ok=True)
    try:
        yield
    except Co2sError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            log.warning("%s: the map is kept for the next run with this --out; remove it if there is none", folder)
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
        InputError: there is none to choose.
    """
    rated, for_disagreement = scores.ratings()
    choice = choose(rated, scores.class_ids, settings.count)
    if not choice.places:
        labelled = f" and without a label of {settings.labels}" if settings.labels else ""
        raise InputError(
            f"{settings.scene}: has no place of {lattice.side} × {lattice.side} pixels that is all data{labelled}",
            hint="take a smaller --size"
            + ("; if --labels marks what is not labelled by a value, name it: --values 0=none" if labelled else ""),
        )
    names, alone = manifest.class_map.names, len(manifest.students) == 1
    suggestions = []
    for place in choice.places:
        row, col = place[0] * lattice.side, place[1] * lattice.side
        apart = None if scores.disagreement is None else float(scores.disagreement[place])
        suggestions.append(
            Suggestion(
                row=row,
                col=col,
                reason=_ALONE if alone else DISAGREEMENT if for_disagreement[place] else UNCERTAINTY,
                map_class=names[int(scores.class_ids[place])],
                guesses=_guesses(rasters, Window(row, col, lattice.side, lattice.side), manifest),
                uncertainty=float(scores.uncertainty[place]),
                disagreement=apart,
            )
        )
    if choice.distance < MIN_DISTANCE:
        log.warning("some places are neighbours: too few are free to keep them apart")
    return tuple(suggestions)


def _guesses(rasters: Mapping[str, Path], window: Window, manifest: Manifest) -> dict[str, str]:
    """The most frequent class of each student in a window, by student; "none" where it has none."""
    guesses = {}
    for student, plane in Opinions.of(manifest).guesses.items():
        with byte_reader(str(rasters[plane])) as reader:
            counts = np.bincount(reader.read(window).ravel(), minlength=256)[:IGNORE]
        guesses[student] = manifest.class_map.names[int(counts.argmax())] if counts.any() else "none"
    return guesses


def _write(
    places: Sequence[Suggestion], lattice: PlaceLattice, settings: SuggestConfig, *, grid: Grid, manifest: Manifest
) -> Path:
    """Write the boxes; returns the path of their style."""
    fields: dict[str, NDArray[Any]] = {
        "reason": np.array([place.reason for place in places], object),
        "map_class": np.array([place.map_class for place in places], object),
    }
    for student, plane in Opinions.of(manifest).guesses.items():
        fields[plane] = np.array([place.guesses[student] for place in places], object)
    fields[UNCERTAINTY] = np.array([place.uncertainty for place in places]).round(4)
    if len(manifest.students) > 1:
        fields[DISAGREEMENT] = np.array([place.disagreement for place in places], np.float64).round(4)
    corners = np.array([(place.row, place.col) for place in places], np.int64)
    return write_boxes(settings.out, corners, lattice.side, grid=grid, classes=manifest.class_map, fields=fields)


def _tell(settings: SuggestConfig, places: Sequence[Suggestion]) -> None:
    if len(places) < settings.count:
        log.warning("%d of %d places: no more are all data and without labels", len(places), settings.count)
    by_class = Counter(place.map_class for place in places)
    log.info(
        "%d places (%s): fill in `class`, or draw polygons in them, and train on %s too",
        len(places), ", ".join(f"{name} {number}" for name, number in by_class.most_common()), settings.out,
    )  # fmt: skip
