"""Facts of a scene or a model file, and whether the two fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from co2s_cli.config.info import InfoConfig
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.undeclared import border_remark
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest

MODEL_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".ckpt"})


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """Facts of a scene."""

    height: int
    width: int
    bands: tuple[str, ...]
    """Names of the bands in file order, without alpha."""
    dtype: str
    masked_by: str
    """What marks pixels as invalid: nodata value, mask, alpha band."""
    crs: str | None
    transform: tuple[float, ...]
    """The six coefficients from pixel (column, row) to coordinates."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north; None without georeference."""
    ground_resolution: float | None
    """Metres per pixel at the centre."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts of a model file."""

    students: dict[str, str]
    """Student → its backbone."""
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    dtype: str
    """Sample type of the imagery that it was trained on."""
    low: tuple[float, ...]
    """Sample value that is scaled to 0, by band."""
    high: tuple[float, ...]
    """Sample value that is scaled to 1, by band."""
    tile: int
    ground_resolution: float | None
    fusion: str
    taught_by: tuple[str, ...]
    """Foundation models whose image features a single student fuses with its own."""
    trained_on: str
    licence: str
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class InfoResult:
    """Facts of a scene or a model, and of their fit."""

    source: str
    kind: Literal["scene", "model"]
    scene: SceneFacts | None
    model: ModelFacts | None
    """The model file that was asked about, or the one that the scene was compared with."""
    fits: bool | None
    """Whether scene and model fit; None if they were not compared."""
    problems: tuple[str, ...]
    """Reasons why they do not fit, each with a remedy."""
    remarks: tuple[str, ...]
    """Remarks that stop nothing, one sentence each."""


def run(settings: InfoConfig) -> InfoResult:
    """Read a scene or a model file; with --model, compare a scene with that model."""
    if Path(settings.source).suffix.lower() in MODEL_SUFFIXES:
        if settings.model is not None:
            raise ConfigError("--model compares a scene with a model, but both given files are models")
        facts = model_facts(Path(settings.source))
        return InfoResult(settings.source, "model", None, facts, None, (), ())
    scene = Scene.open(settings.source)
    if settings.model is None:
        return InfoResult(settings.source, "scene", scene_facts(scene), None, None, (), _remarks(scene))
    manifest = weights.read_manifest(settings.model)
    misfits = problems(scene, manifest)
    return InfoResult(
        source=settings.source,
        kind="scene",
        scene=scene_facts(scene),
        model=model_facts(settings.model),
        fits=not misfits,
        problems=misfits,
        remarks=(*_remarks(scene), *_unknown_resolution(scene, manifest)),
    )


def scene_facts(scene: Scene) -> SceneFacts:
    """The facts of an open scene."""
    return SceneFacts(
        height=scene.height,
        width=scene.width,
        bands=scene.names,
        dtype=scene.dtype,
        masked_by=scene.rules.describe(),
        crs=scene.crs.to_string() if scene.crs else None,
        transform=tuple(scene.transform)[:6],
        bounds=scene.grid.bounds() if scene.grid.has_transform else None,
        ground_resolution=scene.ground_resolution,
    )


def model_facts(path: Path) -> ModelFacts:
    """The facts of a model file; its tensors are not read."""
    manifest = weights.read_manifest(path)
    return ModelFacts(
        students={name: student.title for name, student in manifest.students.items()},
        classes=manifest.class_map.names,
        bands=manifest.bands,
        dtype=manifest.scaling.dtype,
        low=manifest.scaling.low,
        high=manifest.scaling.high,
        tile=manifest.tile,
        ground_resolution=manifest.ground_resolution,
        fusion=manifest.fusion,
        taught_by=manifest.teachers,
        trained_on=manifest.trained_on,
        licence=manifest.licence,
        size=path.stat().st_size,
    )


def problems(scene: Scene, manifest: Manifest) -> tuple[str, ...]:
    """Reasons why a scene and a model do not fit, each with a remedy: bands, sample type, ground resolution."""
    misfits = []
    try:
        scene.with_bands_of(manifest.bands)
    except InputError as error:
        misfits.append(f"{error.message.removeprefix(f'{scene.source}: ')}; {error.hint}")
    if scene.dtype != manifest.scaling.dtype:
        model_dtype = manifest.scaling.dtype
        misfits.append(f"samples are {scene.dtype}, the model was trained on {model_dtype}; predict with --scale auto")
    gap = scene.resolution_gap(manifest.ground_resolution)
    if gap is not None:
        misfits.append(gap)
    return tuple(misfits)


def _remarks(scene: Scene) -> tuple[str, ...]:
    """Remarks on the scene alone, among them one on a border that it does not declare as nodata."""
    border = border_remark(scene)
    return (*scene.remarks(), *([border] if border else []))


def _unknown_resolution(scene: Scene, manifest: Manifest) -> list[str]:
    if manifest.ground_resolution is None or scene.ground_resolution is not None:
        return []
    return [f"the model wants {manifest.ground_resolution:g} m per pixel, the scene's resolution is not known"]
