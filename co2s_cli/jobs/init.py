"""Write the data.yaml for training on scenes and polygons or points, and report their content."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from co2s_cli import __version__
from co2s_cli.classes import IGNORE
from co2s_cli.config.data import DataConfig, LabeledEntry, Picked, UnlabeledEntry, portable
from co2s_cli.config.init import InitConfig
from co2s_cli.config.run import RunConfig
from co2s_cli.data.draft import AttributeClasses, ClassFacts, check_legend, class_facts, data_yaml
from co2s_cli.data.roles import Roles, roles_of
from co2s_cli.data.sources import Source, labeled_sources, with_bands
from co2s_cli.errors import InputError, OutputError
from co2s_cli.files import check_output, write_text
from co2s_cli.geo.labels.labels import PolygonLabels
from co2s_cli.geo.labels.polygon_file import (
    Attribute,
    attributes_of,
    in_pixels,
    intersects_grid,
    no_attribute,
    on_grid,
    only_classes,
    other_crs,
    overlaps,
)
from co2s_cli.geo.read.bands import common_names, is_numbered
from co2s_cli.geo.read.checks import pick_bands
from co2s_cli.geo.read.features import is_vector, read_shapes, shape_noun
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.scenes import scene_sources, tell_left_out
from co2s_cli.geo.read.undeclared import border_remark
from co2s_cli.jobs import early
from co2s_cli.jobs.paths import check_outputs

log = logging.getLogger(__name__)

_DEFAULT_ATTRIBUTE = "class"
_MIN_OVERLAP = 0.1
"""Share of the smaller polygon from which an overlap counts; smaller ones are imprecise drawing of a common border."""

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
    polygons: int
    """Number of polygons and points on the scene."""


@dataclass(frozen=True, slots=True)
class InitResult:
    """The written data.yaml, and facts of scenes and polygons."""

    out: Path
    scenes: tuple[SceneLine, ...]
    attribute: str
    classes: tuple[ClassFacts, ...]
    bands: tuple[str, ...]
    """Names of the bands that the model will see."""
    remarks: tuple[str, ...]
    """Remarks that stop nothing, one sentence each."""
    thin: tuple[str, ...]
    """Classes with too few labels, each with a remedy."""
    shape_noun: str
    """What the labels are: "polygons", "points" or "polygons and points"."""


@dataclass(frozen=True, slots=True)
class RunDraft:
    """The data.yaml of a run on a scene and polygons, not yet written."""

    result: InitResult
    text: str


@dataclass(frozen=True, slots=True)
class _Polygons:
    """A file of polygons and points, and the classes by one of its attributes."""

    path: Path
    frame: Any
    attribute: Attribute
    legend: AttributeClasses

    @property
    def shape_noun(self) -> str:
        """What they are called together."""
        return shape_noun(self.frame)


def run(settings: InitConfig) -> InitResult:
    """Read scenes and polygons, and write the data.yaml for training on them.

    Raises:
        InputError: polygons that cannot be trained on, or scenes that cannot be read.
        OutputError: the file exists or cannot be written.
    """
    check_outputs(settings)
    check_output(settings.out, overwrite=settings.overwrite)
    result, text = drafted(settings)
    write_text(settings.out, text)
    return result


def drafted(settings: InitConfig) -> tuple[InitResult, str]:
    """Facts of scenes and polygons, and the text of their data.yaml; no file is written."""
    polygons = _open_polygons(settings)
    tell_left_out(settings.scenes)
    scenes = [Scene.open(source) for source in scene_sources(settings.scenes)]
    _refuse_band_files(scenes)
    lines = [_scene_line(scene, polygons) for scene in scenes]
    if not any(line.polygons for line in lines):
        raise _no_polygon_on_scenes(polygons, scenes)
    first = next(scene for scene, line in zip(scenes, lines, strict=True) if line.polygons)
    picked = pick_bands(first.source, first.all_names, first.alpha, settings.bands) if settings.bands else ()
    drawn = _config(scenes, lines, polygons, picked)
    config = with_bands(drawn)
    sources = labeled_sources(config.labeled, config.class_map, config.band_names)
    bands = _as_written(sources[0].scene)
    remarks = [*_remarks(polygons, scenes, lines), *_check_overlaps(polygons, sources, settings)]
    facts = class_facts(polygons.legend, *_polygons_and_blocks(config, sources))
    text = data_yaml(
        portable(drawn.model_copy(update={"bands": bands}), settings.out.parent),
        facts,
        name=settings.out.name,
        origin=f"By co2s init {__version__}: {settings.labels.name}, attribute {polygons.attribute.name}.",
        known=_common_names(config.band_names),
        noun=polygons.shape_noun,
    )
    thin = tuple(line for item in facts if (line := item.thin(polygons.shape_noun)))
    result = InitResult(
        settings.out, tuple(lines), polygons.attribute.name, tuple(facts), config.band_names, tuple(remarks), thin,
        polygons.shape_noun,
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
        bands=settings.bands,
        out=settings.out / "data.yaml",
    )
    check_outputs(init_settings)
    draft = RunDraft(*drafted(init_settings))
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
    return settings.model_copy(
        update={"data": str(out), "labels": None, "attribute": None, "overlaps": "refuse", "bands": []}
    )


def checked_run(settings: R) -> R:
    """Settings after all checks that need no training; for a scene and polygons the data.yaml is written."""
    early.check_run(settings)
    draft = draft_for_run(settings)
    early.check_pretrained(settings)
    return with_draft(settings, draft)


def _open_polygons(settings: InitConfig) -> _Polygons:
    path = settings.labels
    if path.exists() and not is_vector(path):
        raise InputError(
            f"{path}: polygons or points are wanted (.gpkg, .geojson, .shp, …)",
            hint="name a raster of labels in data.yaml by hand: labeled: [{image: …, labels: …, values: {1: water}}]",
        )
    frame = read_shapes(path)
    attribute = _class_attribute(path, frame, settings.attribute)
    legend = AttributeClasses.of(attribute)
    check_legend(str(path), attribute, legend)
    return _Polygons(path, frame, attribute, legend)


def _class_attribute(path: Path, frame: Any, requested: str | None) -> Attribute:
    """The attribute that holds the classes: that of --attribute, else `class`, else the only one that can."""
    by_name = {attribute.name: attribute for attribute in attributes_of(frame)}
    if requested is None and _DEFAULT_ATTRIBUTE not in by_name:
        found = only_classes(frame)
        if found is None:
            raise no_attribute(path, frame, _DEFAULT_ATTRIBUTE)
        return found
    name = requested or _DEFAULT_ATTRIBUTE
    if name not in by_name:
        raise no_attribute(path, frame, name)
    attribute = by_name[name]
    if attribute.kind == "other" and attribute.values:
        raise InputError(
            f"{path}: attribute {name} holds neither text nor whole numbers (such as {attribute.values[0]})",
            hint=no_attribute(path, frame, name).hint,
        )
    return attribute


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


def _scene_line(scene: Scene, polygons: _Polygons) -> SceneLine:
    shapes = in_pixels(polygons.path, polygons.frame, scene.grid)
    return SceneLine(
        source=scene.source,
        height=scene.height,
        width=scene.width,
        bands=scene.names,
        ground_resolution=scene.ground_resolution,
        polygons=int(intersects_grid(shapes, scene.grid).sum()),
    )


def _no_polygon_on_scenes(polygons: _Polygons, scenes: Sequence[Scene]) -> InputError:
    """The error if no polygon lies on any scene, with the bounds of both in the scene's CRS."""
    first = scenes[0]
    frame = on_grid(polygons.path, polygons.frame, first.grid)
    boxes = [" ".join(f"{value:.6g}" for value in box) for box in (frame.total_bounds, first.grid.bounds())]
    crs_names = [crs.to_string() if crs else "no CRS" for crs in (polygons.frame.crs, first.crs)]
    more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
    noun = polygons.shape_noun
    hint = f"is the CRS of one of the two files wrong? ({noun}: {crs_names[0]}, scene: {crs_names[1]})"
    if first.crs is None:
        hint += f"; a scene without a CRS wants {noun} in pixels: x = column, y = row from the top"
    return InputError(
        f"{polygons.path}: none of its {len(frame)} {noun} lies on {first.source}{more} "
        f"({noun} at {boxes[0]}, scene at {boxes[1]}, as west south east north in the scene's CRS)",
        hint=hint,
    )


def _config(scenes: Sequence[Scene], lines: Sequence[SceneLine], polygons: _Polygons, bands: Picked) -> DataConfig:
    """The content of the data.yaml, with paths as the user gave them."""
    labeled = [
        LabeledEntry(
            image=scene.source,
            labels=polygons.path,
            attribute=polygons.attribute.name,
            values=polygons.legend.values,
        )
        for scene, line in zip(scenes, lines, strict=True)
        if line.polygons
    ]
    classes = class_facts(polygons.legend, [0] * len(polygons.legend.names), (), ())
    return DataConfig(
        classes=tuple({"name": item.name, "color": item.color} for item in classes),
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


def _polygons_and_blocks(config: DataConfig, sources: list[Source]) -> tuple[list[int], list[Any], list[Any]]:
    """Polygons by class, and the label blocks for training and validation as a run with defaults splits them."""
    counts = np.zeros(len(config.classes), np.int64)
    for source in sources:
        assert isinstance(source.labels, PolygonLabels)
        ids = source.labels.ids[intersects_grid(source.labels.shapes, source.scene.grid)]
        counts += np.bincount(ids[ids != IGNORE], minlength=len(counts))
    crop, seed = (RunConfig.model_fields[name].default for name in ("crop", "seed"))
    roles: Roles = roles_of(config, sources, crop, seed, None)
    return counts.tolist(), roles.train_blocks, roles.val_blocks


def _check_overlaps(polygons: _Polygons, sources: Sequence[Source], settings: InitConfig) -> list[str]:
    """Refuse overlapping polygons of different classes; with --overlaps last a remark on them is returned instead."""
    labels = sources[0].labels
    assert isinstance(labels, PolygonLabels)
    all_overlaps = overlaps(list(labels.shapes), labels.ids.tolist())
    large_overlaps = [pair for pair in all_overlaps if pair.share >= _MIN_OVERLAP and pair.area >= 1]
    if not large_overlaps:
        return []
    pair, count = large_overlaps[0], len(large_overlaps)
    first, second = (_class_name(polygons, labels.ids[index]) for index in (pair.first, pair.second))
    remark = (
        f"{polygons.path}: {count} overlap{'s' * (count != 1)} of {polygons.shape_noun} of different classes, "
        f"the largest of number {pair.first + 1} ({first}) with {pair.second + 1} ({second}): {pair.area:.0f} pixels"
    )
    if settings.overlaps == "refuse":
        raise InputError(remark, hint="correct them, or let the later one of the file win with --overlaps last")
    return [f"{remark}; the later one wins"]


def _class_name(polygons: _Polygons, class_id: int) -> str:
    return "not labelled" if class_id == IGNORE else polygons.legend.names[class_id]


def _remarks(polygons: _Polygons, scenes: Sequence[Scene], lines: Sequence[SceneLine]) -> list[str]:
    """Remarks on CRS, position, missing attribute values and merged class names of the polygons, and on the scenes."""
    count, noun = len(polygons.frame), polygons.shape_noun
    polygon_crs = other_crs(polygons.frame, scenes[0].grid)
    remarks = []
    if polygon_crs:
        scene_crs = scenes[0].crs.to_string()
        remarks.append(f"{polygons.path}: is in {polygon_crs}, reprojected to the scene's {scene_crs}")
    outside = count - max(line.polygons for line in lines)
    if outside > 0 and len(scenes) == 1:
        remarks.append(f"{polygons.path}: {outside} of {count} {noun} lie outside of {scenes[0].source}")
    empty = count - polygons.attribute.polygons
    if empty:
        remarks.append(f"{polygons.path}: {empty} of {count} {noun} have no {polygons.attribute.name} and are left out")
    class_names = [name for name in polygons.legend.values.values() if name]
    if len(set(class_names)) < len(class_names):
        remarks.append(f"{polygons.path}: values that differ only in case or blanks are one class (see values:)")
    return [*remarks, *filter(None, map(border_remark, scenes))]


def _common_names(bands: Sequence[str]) -> list[str]:
    """Common names of bands that are called differently in the file, as `B4 = red`."""
    pairs = zip(bands, common_names(bands), strict=True)
    return [f"{name} = {common}" for name, common in pairs if common and common != name.lower()]
