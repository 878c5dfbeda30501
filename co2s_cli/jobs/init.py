"""Write the data.yaml for training on scenes and a file of their labels, and report their content."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from co2s_cli import __version__
from co2s_cli.config.data import DataConfig, LabeledEntry, Picked, UnlabeledEntry, portable
from co2s_cli.config.init import InitConfig
from co2s_cli.config.run import RunConfig
from co2s_cli.config.train import settings_of
from co2s_cli.data.draft.classes import ClassFacts, class_facts
from co2s_cli.data.draft.label_file import LabelFile
from co2s_cli.data.draft.polygons import PolygonFile
from co2s_cli.data.draft.raster import RasterFile
from co2s_cli.data.draft.text import data_yaml
from co2s_cli.data.roles import Roles, roles_of
from co2s_cli.data.sources import Source, labeled_sources, resolved, with_bands
from co2s_cli.data.survey import LabelBlock
from co2s_cli.errors import InputError, OutputError
from co2s_cli.files import check_output, write_text
from co2s_cli.geo.read.bands import common_names, is_numbered
from co2s_cli.geo.read.checks import pick_bands
from co2s_cli.geo.read.features import is_vector
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import scene_sources, tell_left_out
from co2s_cli.geo.read.undeclared import border_remark
from co2s_cli.jobs import early
from co2s_cli.jobs.paths import check_outputs

log = logging.getLogger(__name__)

R = TypeVar("R", bound=RunConfig)


@dataclass(frozen=True, slots=True)
class SceneLine:
    """Facts of a scene."""

    source: str
    height: int
    width: int
    bands: tuple[str, ...]
    ground_resolution: float | None
    """Metres per pixel."""
    labelled: bool
    """Whether the file has labels on the scene."""
    polygons: int | None
    """Number of polygons and points on the scene; None for a raster of labels."""


@dataclass(frozen=True, slots=True)
class InitResult:
    """The written data.yaml, and facts of scenes and labels."""

    out: Path
    scenes: tuple[SceneLine, ...]
    attribute: str | None
    """Attribute that holds the class; None for a raster of labels."""
    classes: tuple[ClassFacts, ...]
    bands: tuple[str, ...]
    """Names of the bands that the model will see."""
    remarks: tuple[str, ...]
    """Remarks that stop nothing, one sentence each."""
    thin: tuple[str, ...]
    """Classes with too few labels, each with a remedy."""
    noun: str
    """What the labels are called: "polygons", "points", "polygons and points", or "labels" for a raster."""


@dataclass(frozen=True, slots=True)
class RunDraft:
    """The data.yaml of a run on a scene and its labels, not yet written."""

    result: InitResult
    text: str


def run(settings: InitConfig) -> InitResult:
    """Read scenes and labels, and write the data.yaml for training on them.

    Raises:
        InputError: labels that cannot be trained on, or scenes that cannot be read.
        OutputError: the file exists or cannot be written.
    """
    check_outputs(settings)
    check_output(settings.out, overwrite=settings.overwrite)
    small = settings_of(None, {"preset": "small"}, [])  # the run that the file and the table name next
    result, text = drafted(settings, crop=small.crop, seed=small.seed)
    write_text(settings.out, text)
    return result


def drafted(settings: InitConfig, *, crop: int, seed: int) -> tuple[InitResult, str]:
    """Facts of scenes and labels, and the text of their data.yaml; no file is written.

    `crop` and `seed` are those of the run, which decide what validates.
    """
    labels = _open_labels(settings)
    tell_left_out(settings.scenes)
    scenes = [Scene.open(source) for source in _scenes_without(settings.labels, scene_sources(settings.scenes))]
    _refuse_band_files(scenes)
    lines = [_scene_line(scene, labels) for scene in scenes]
    if not any(line.labelled for line in lines):
        raise labels.lies_elsewhere(scenes)
    first = next(scene for scene, line in zip(scenes, lines, strict=True) if line.labelled)
    picked = pick_bands(first.source, first.all_names, first.alpha, settings.bands) if settings.bands else ()
    drawn = _config(scenes, lines, labels, picked)
    config = with_bands(drawn)
    sources = labeled_sources(config.labeled, config.class_map, config.band_names)
    bands = _as_written(sources[0].scene)
    remarks = [
        *labels.remarks(scenes, [line.polygons for line in lines], sources),
        *filter(None, map(border_remark, scenes)),
    ]
    facts = class_facts(labels.classes, labels.polygons_by_class(sources), *_label_blocks(config, sources, crop, seed))
    origin = f"attribute {labels.attribute}" if labels.attribute else "by value"
    text = data_yaml(
        portable(drawn.model_copy(update={"bands": bands}), settings.out.parent),
        facts,
        name=settings.out.name,
        origin=f"By co2s init {__version__}: {settings.labels.name}, {origin}.",
        known=_common_names(config.band_names),
        noun=labels.noun,
    )
    thin = tuple(line for item in facts if (line := item.thin(labels.noun)))
    result = InitResult(
        settings.out, tuple(lines), labels.attribute, tuple(facts), config.band_names, tuple(remarks), thin,
        labels.noun,
    )  # fmt: skip
    return result, text


def draft_for_run(settings: RunConfig) -> RunDraft | None:
    """The data.yaml for the folder of a run on a scene and `--labels`; None for other runs. No file is written.

    Raises:
        InputError, OutputError: as `run`; or the folder holds a different data.yaml.
    """
    if settings.labels is None or settings.out is None or settings.resume:
        return None
    init_settings = InitConfig(
        scenes=[settings.data],
        labels=settings.labels,
        attribute=settings.attribute,
        overlaps=settings.overlaps,
        ignore=settings.ignore,
        bands=settings.bands,
        out=settings.out / "data.yaml",
    )
    check_outputs(init_settings)
    draft = RunDraft(*drafted(init_settings, crop=settings.crop, seed=settings.seed))
    out = init_settings.out
    if out.exists() and not settings.overwrite and out.read_text(encoding="utf-8") != draft.text:
        raise OutputError(
            f"{out}: differs from the data.yaml for {settings.data} and {settings.labels}",
            hint=f"train on that file (co2s train {out} --out {settings.out}), or replace it with --overwrite",
        )
    return draft


def with_draft(settings: R, draft: RunDraft | None) -> R:
    """The settings of a run with `draft` as its data; writes the draft, identically in each of several processes."""
    if draft is None:
        return settings
    out = draft.result.out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out.parent}: cannot be made into a folder ({error.strerror})") from error
    write_text(out, draft.text)
    for remark in draft.result.remarks:
        log.info("%s", remark)
    for thin in draft.result.thin:
        log.warning("thin: %s", thin)
    replaced: dict[str, Any] = {"labels": None, "attribute": None, "overlaps": "refuse", "ignore": None, "bands": []}
    return settings.model_copy(update=replaced | {"data": str(out)})


def checked_run(settings: R) -> R:
    """Settings after all checks that need no training; for a scene and its labels the data.yaml is written."""
    early.check_run(settings)
    draft = draft_for_run(settings)
    early.check_pretrained(settings)
    return with_draft(settings, draft)


def _open_labels(settings: InitConfig) -> LabelFile:
    """The file of --labels: polygons and points if its suffix is that of a vector file, else a raster."""
    return PolygonFile.open(settings) if is_vector(settings.labels) else RasterFile.open(settings)


def _scenes_without(labels: Path, sources: Sequence[str]) -> list[str]:
    """The scenes without the file of labels, which a folder or a pattern brings along if it is a raster.

    Raises:
        InputError: there is no other scene.
    """
    scenes = [source for source in sources if resolved(source) != resolved(str(labels))]
    if not scenes:
        raise InputError(f"{labels}: is the raster of labels, and no other scene is given")
    return scenes


def _refuse_band_files(scenes: Sequence[Scene]) -> None:
    """Refuse files of one band each on one grid, as Sentinel-2 and Landsat come: they are bands, not scenes."""
    if len(scenes) < 2 or any(len(scene.bands) > 1 or scene.grid != scenes[0].grid for scene in scenes):
        return
    files = shlex.join(scene.source for scene in scenes[:3]) + (" …" if len(scenes) > 3 else "")
    raise InputError(
        f"{scenes[0].source} and {len(scenes) - 1} more: files of one band each on the same grid, which would be "
        "learnt as scenes of one band",
        hint=f"bands of one scene become one file with rio, which is installed: rio stack {files} --output scene.tif; "
        "scenes of one band are listed in a data.yaml by hand",
    )


def _scene_line(scene: Scene, labels: LabelFile) -> SceneLine:
    labelled, polygons = labels.on(scene)
    return SceneLine(
        source=scene.source,
        height=scene.height,
        width=scene.width,
        bands=scene.names,
        ground_resolution=scene.ground_resolution,
        labelled=labelled,
        polygons=polygons,
    )


def _config(scenes: Sequence[Scene], lines: Sequence[SceneLine], labels: LabelFile, bands: Picked) -> DataConfig:
    """The content of the data.yaml, with paths as the user gave them."""
    attribute = labels.attribute or LabeledEntry.model_fields["attribute"].default
    labeled = [
        LabeledEntry(image=scene.source, labels=labels.path, values=labels.classes.values, attribute=attribute)
        for scene, line in zip(scenes, lines, strict=True)
        if line.labelled
    ]
    classes = zip(labels.classes.names, labels.classes.colors, strict=True)
    return DataConfig(
        classes=tuple({"name": name, "color": color} for name, color in classes),
        labeled=tuple(labeled),
        unlabeled=tuple(UnlabeledEntry(image=scene.source) for scene in scenes),
        bands=bands,
    )


def _as_written(scene: Scene) -> Picked:
    """The bands of the first labelled scene for the data.yaml: by name, which finds them elsewhere, if they have one.

    A name that only counts bands would find none once another band is deleted from the list.
    """
    own = [scene.all_names[number - 1] for number in scene.bands]
    return tuple(number if is_numbered(name) else name for number, name in zip(scene.bands, own, strict=True))


def _label_blocks(
    config: DataConfig, sources: list[Source], crop: int, seed: int
) -> tuple[list[LabelBlock], list[LabelBlock]]:
    """The label blocks for training and for validation as a run splits them."""
    roles: Roles = roles_of(config, sources, crop, seed, None)
    return roles.train_blocks, roles.val_blocks


def _common_names(bands: Sequence[str]) -> list[str]:
    """Common names of bands that are called differently in the file, as `B4 = red`."""
    pairs = zip(bands, common_names(bands), strict=True)
    return [f"{name} = {common}" for name, common in pairs if common and common != name.lower()]
