"""The model that a run starts from: new students with their weights, or a model file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from co2s_cli.config.run import RunConfig
from co2s_cli.config.train import TrainConfig
from co2s_cli.data.areas import digest_of
from co2s_cli.data.dataset import Dataset
from co2s_cli.data.strong import rgb_places
from co2s_cli.errors import ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.fresh import new_ensemble, read_prompts
from co2s_cli.models.manifest import IMAGENET, SINGLE, GuidedSpec, LocalSpec, Manifest, StudentSpec
from co2s_cli.students import DEFAULT_STUDENTS, LOCAL_NAMES, Fusion, StudentName
from co2s_cli.training.transfer import transfer

log = logging.getLogger(__name__)

_RANDOM_LAYER_SCALE = 1e-5
FRESH_LAYER_SCALE = 0.1
"""timm starts at 1e-5, through which a network that trains from scratch for a short time learns next to nothing."""


def first_ensemble(settings: TrainConfig, data: Dataset) -> Ensemble:
    """The model before the first step.

    Raises:
        ModelError: weights or a model file that do not fit.
    """
    students = students_of(settings, data.bands)
    begins = settings.init and (str(settings.init) != weights.START or "dino" in (students or ()))
    return opened(settings, _from_file(settings, data, students) if begins else _fresh(settings, data, students))


def students_of(settings: TrainConfig, bands: Sequence[str]) -> tuple[StudentName, ...] | None:
    """Who learns; None: those of the model file that the run begins with, else the paper's pair.

    The packaged start has seen red, green and blue: with other bands its DINO student was far below `local` on few
    polygons, and took their mean down. There three of that kind learn, because from few labels one of them differs by
    beginning: on few-landsat .82 to .87 alone, .85 to .86 three together.
    """
    if settings.students is None and str(settings.init) == weights.START:
        return ("dino", "local") if rgb_places(bands) and len(bands) == len(catalog.RGB) else LOCAL_NAMES
    return settings.students


def sees_one_view(settings: TrainConfig, bands: Sequence[str]) -> bool:
    """Whether UniMatch and Co2S are to see one strong view in place of two and of dropped features.

    With the packaged start's DINO student beside `local` that gained 1.7 points on india-s2 in the mean and took
    a fifth less time; three of `local`'s kind lost by it on few-landsat.
    """
    if settings.single_view is not None:
        return settings.single_view
    return str(settings.init) == weights.START and "dino" in (students_of(settings, bands) or ())


def opened(settings: RunConfig, ensemble: Ensemble) -> Ensemble:
    """The model with those parameters open to training that the settings choose."""
    part, weights_by_name = settings.train_backbone, weights_of(settings)
    for name, student in ensemble.students.items():
        scratch = not settings.init and weights_by_name[name] == "none"
        student.train_backbone(("all" if scratch else "attention") if part == "auto" else part)  # type: ignore[operator]
    return ensemble


def weights_of(settings: RunConfig) -> dict[str, str]:
    """The weights of each student's backbone by its name, `auto` resolved."""
    chosen = {SINGLE: _resolved(settings.student_weights, settings.student or "")}
    if isinstance(settings, TrainConfig):
        dino = "none" if settings.dino_init == "random" else _resolved(settings.dino_weights, settings.dino)
        chosen |= {"clip": settings.clip_weights, "dino": dino, **dict.fromkeys(LOCAL_NAMES, "none")}
    return chosen


def _resolved(weights: str, name: str) -> str:
    return (name.partition(".")[2] or "none") if weights == "auto" else weights


def _fresh(settings: TrainConfig, data: Dataset, students: Sequence[StudentName] | None) -> Ensemble:
    """New students, filled with pretrained weights where the settings name some."""
    statistics = data.statistics()
    specs: dict[str, StudentSpec] = {
        name: catalog.standardized(student_spec(settings, name, data.bands), *statistics)
        for name in students or DEFAULT_STUDENTS
    }
    return drawn(settings, manifest(settings, data, specs, fusion=settings.fusion))


def drawn(settings: RunConfig, described: Manifest, *, known: Collection[str] = ()) -> Ensemble:
    """The model that a manifest describes, with pretrained weights where the settings name some.

    For the students `known` none are fetched: a model file has them.
    """
    torch.manual_seed(settings.seed)  # what no weights fill is drawn here, and nothing later draws from this stream
    chosen = weights_of(settings) | dict.fromkeys(known, "none")
    ensemble = new_ensemble(described, chosen)
    for name, student in ensemble.students.items():
        if chosen[name] == "none":
            published = isinstance(settings, TrainConfig) and settings.dino_init == "random" and name == "dino"
            set_layer_scale(student, _RANDOM_LAYER_SCALE if published else FRESH_LAYER_SCALE)
    return ensemble


def student_spec(settings: TrainConfig, name: StudentName, bands: Sequence[str]) -> StudentSpec:
    """What a new student is, by its name and the settings."""
    if name in LOCAL_NAMES:
        return catalog.local_student(bands)
    weights = weights_of(settings)[name]
    spec = catalog.clip_student(settings.clip, weights) if name == "clip" else catalog.dino_student(settings.dino)
    if settings.network == "published":
        options: dict[str, Any] = {"norm_eps": 1e-6} | ({"quick_gelu": False} if name == "clip" else {})
        options |= {"rope": "bfloat16"} if "dinov3" in spec.backbone.name else {}
        spec = _as_published(spec, options)
    elif weights == "none" and settings.dino_init != "random":
        spec = catalog.from_scratch(spec)
    if name == "clip" and settings.clip_guidance == "queries":
        spec = spec.model_copy(update={"guidance": "implicit"})
    return catalog.for_bands(spec, bands)


def set_layer_scale(student: nn.Module, value: float) -> None:
    """Let every block of a transformer without weights begin with this share of what it does."""
    for name, parameter in student.named_parameters():
        if "gamma" in name:
            nn.init.constant_(parameter, value)


def manifest(
    settings: RunConfig,
    data: Dataset,
    students: Mapping[str, StudentSpec],
    *,
    fusion: Fusion = "mean",
    taught_under: Sequence[str] = (),
    **facts: Any,
) -> Manifest:
    """What the model file will say about itself; `facts` join those about its training.

    `taught_under` are the licences of teachers, each a phrase.
    """
    return Manifest(
        classes=tuple(data.classes.plain()),
        bands=data.bands,
        scaling=data.scaling,
        tile=settings.eval_tile or settings.crop,
        ground_resolution=data.ground_resolution,
        students=dict(students),  # type: ignore[arg-type]
        fusion=fusion,
        trained_on=settings.trained_on or f"{data.labeled_images} labelled images, {sum(data.counts)} labelled pixels",
        training={
            "method": settings.method_name,
            "preset": settings.preset,
            "seed": settings.seed,
            "data": data.digest,
            "crop": settings.crop,
            "labeled_ratio": settings.labeled_ratio,
            "areas": digest_of(data.val),
            **facts,
        },
        licence=settings.licence or _licence(settings, students, taught_under),
    )


def _from_file(settings: TrainConfig, data: Dataset, students: Sequence[StudentName] | None) -> Ensemble:
    """A model of the data's classes and bands that begins with what a model file has for it."""
    assert settings.init is not None
    source = weights.load(settings.init)
    if SINGLE in source.students and settings.method in ("co2s", "unimatch"):
        raise ModelError(
            f"{settings.init}: holds a single student; method {settings.method} wants clip, dino or local",
            hint="--method fixmatch or supervised",
        )
    old = source.manifest
    wanted: Sequence[str] = tuple(old.students) if SINGLE in old.students or not students else students
    same = (old.class_map.names, old.bands) == (data.classes.names, data.bands)
    specs: dict[str, StudentSpec] = {}
    for name in wanted:
        known = old.students.get(name)  # type: ignore[call-overload]
        if known is not None:
            specs[name] = catalog.for_bands(known, data.bands)
        elif name != SINGLE:
            specs[name] = student_spec(settings, name, data.bands)  # type: ignore[arg-type]
    if not same:  # what goes on with the same classes and bands keeps the statistics that it has learnt with
        statistics = data.statistics()
        specs = {name: catalog.standardized(spec, *statistics) for name, spec in specs.items()}
    described = manifest(settings, data, specs, fusion=settings.fusion)
    target = begun_from(settings, source, drawn(settings, described, known=old.students))
    if {(item.name, item.prompts) for item in data.classes.classes} - {
        (item.name, item.prompts) for item in old.class_map.classes
    }:
        read_prompts(target, weights_of(settings))  # a file's say other words, even for classes of its names
    return target


def begun_from(settings: RunConfig, source: Ensemble, target: Ensemble, *, leave: Sequence[str] = ()) -> Ensemble:
    """`target` with all that fits of `source`, the model in the file `settings.init`.

    Raises:
        ModelError: nothing of it fits.
    """
    taken = transfer(source, target, leave=leave)
    if not any(count for count, _ in taken.taken.values()):
        held, wanted = ", ".join(source.students), ", ".join(target.students)
        raise ModelError(f"{settings.init}: nothing in it fits (it holds {held}, wanted: {wanted})")
    log.info("%s: taken %s", settings.init, taken)
    return target


def _as_published(spec: GuidedSpec, options: dict[str, Any]) -> GuidedSpec:
    backbone = spec.backbone.model_copy(update={"options": {**spec.backbone.options, **options}, **IMAGENET})
    return spec.model_copy(update={"backbone": backbone})


def _licence(settings: RunConfig, students: Mapping[str, StudentSpec], taught_under: Sequence[str]) -> str:
    """What the weights that a run starts from bring along, then what its teachers do."""
    return "; ".join(dict.fromkeys(text for text in (_inherited(settings, students), *taught_under) if text))


def _inherited(settings: RunConfig, students: Mapping[str, StudentSpec]) -> str:
    if settings.init is not None:
        return weights.read_manifest(settings.init).licence
    found = weights_of(settings)
    known = any(
        "dinov3" in spec.backbone.name and found[name] != "none"
        for name, spec in students.items()
        if not isinstance(spec, LocalSpec)
    )
    return "DINOv3 weights carry Meta's DINOv3 licence" if known else ""
