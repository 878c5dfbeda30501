"""The model before the first step: new students with random or pretrained weights, or students of a model file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from co2s_cli.config.recipes import PRESETS
from co2s_cli.config.run import RunConfig
from co2s_cli.config.train import TrainConfig
from co2s_cli.data.areas import digest_of
from co2s_cli.data.dataset import Dataset
from co2s_cli.data.strong import rgb_places
from co2s_cli.errors import ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.fresh import new_ensemble, read_prompts
from co2s_cli.models.manifest import IMAGENET, SINGLE, USUAL_OVERLAP, GuidedSpec, LocalSpec, Manifest, StudentSpec
from co2s_cli.students import DEFAULT_STUDENTS, LOCAL_NAMES, Fusion, StudentName
from co2s_cli.training.transfer import transfer

log = logging.getLogger(__name__)

_RANDOM_LAYER_SCALE = 1e-5
"""timm's initial LayerScale, which the published random DINO student (`dino_init`) has."""

FRESH_LAYER_SCALE = 0.1
"""Initial LayerScale of students without weights. With timm's 1e-5 a short run from scratch learns next to nothing."""


def first_ensemble(settings: TrainConfig, data: Dataset) -> Ensemble:
    """The model before the first step, on the CPU.

    Raises:
        ModelError: weights or a model file that do not fit.
    """
    students = students_of(settings, data.bands)
    uses_file = settings.init and (str(settings.init) != weights.START or "dino" in (students or ()))
    model = _model_from_file(settings, data, students) if uses_file else _new_model(settings, data, students)
    return choose_trainable(settings, model)


def students_of(settings: TrainConfig, bands: Sequence[str]) -> tuple[StudentName, ...] | None:
    """Names of the students to train; None: those of the model file `settings.init`, without one the paper's pair.

    The packaged start model was trained on red, green and blue. With other bands its DINO student was far worse than a
    `local` student on few polygons, and lowered the mean of both. For such bands three `local` students train, because
    with few labels the result of one depends on its initial weights: on few-landsat .82 to .87 mIoU for one, .85 to .86
    for three together.
    """
    if not settings.follows_bands:
        return settings.students
    is_rgb = bool(rgb_places(bands)) and len(bands) == len(catalog.RGB)
    own_dino = settings.init is None and settings.dino != PRESETS["small"]["dino"]
    return ("dino", "local") if is_rgb or own_dino else LOCAL_NAMES


def sees_one_view(settings: TrainConfig, bands: Sequence[str]) -> bool:
    """Whether UniMatch and Co2S use one strong view instead of two and the feature view; `single_view` if it is set.

    With the DINO student of the packaged start model and a `local` student one view gained 1.7 points on india-s2 in
    the mean and took a fifth less time; three `local` students lost by it on few-landsat.
    """
    if settings.single_view is not None:
        return settings.single_view
    return str(settings.init) == weights.START and "dino" in (students_of(settings, bands) or ())


def choose_trainable(settings: RunConfig, ensemble: Ensemble) -> Ensemble:
    """Set which backbone parameters train, as `train_backbone` says; returns the same ensemble."""
    part, weights_by_name = settings.train_backbone, weights_of(settings)
    for name, student in ensemble.students.items():
        from_scratch = not settings.init and weights_by_name[name] == "none"
        trained = ("all" if from_scratch else "attention") if part == "auto" else part
        student.train_backbone(trained)  # type: ignore[operator]
    return ensemble


def weights_of(settings: RunConfig) -> dict[str, str]:
    """The pretrained weights (a tag, a file or none) of each student's backbone, by student; `auto` is resolved."""
    weights_by_name = {SINGLE: _resolve_auto(settings.student_weights, settings.student or "")}
    if isinstance(settings, TrainConfig):
        dino = "none" if settings.dino_init == "random" else _resolve_auto(settings.dino_weights, settings.dino)
        weights_by_name |= {"clip": settings.clip_weights, "dino": dino, **dict.fromkeys(LOCAL_NAMES, "none")}
    return weights_by_name


def _resolve_auto(weights: str, name: str) -> str:
    return (name.partition(".")[2] or "none") if weights == "auto" else weights


def _new_model(settings: TrainConfig, data: Dataset, students: Sequence[StudentName] | None) -> Ensemble:
    """New students, with pretrained weights where the settings name some."""
    statistics = data.statistics()
    specs: dict[str, StudentSpec] = {
        name: catalog.standardized(student_spec(settings, name, data.bands), *statistics)
        for name in students or DEFAULT_STUDENTS
    }
    return build_model(settings, model_manifest(settings, data, specs, fusion=settings.fusion))


def build_model(settings: RunConfig, manifest: Manifest, *, from_file: Collection[str] = ()) -> Ensemble:
    """The model that `manifest` describes, with pretrained weights where the settings name some.

    Students in `from_file` get none: the caller fills them from a model file.
    """
    torch.manual_seed(settings.seed)  # for the random initial weights; nothing later draws from this stream
    weights_by_name = weights_of(settings) | dict.fromkeys(from_file, "none")
    ensemble = new_ensemble(manifest, weights_by_name)
    for name, student in ensemble.students.items():
        if weights_by_name[name] == "none":
            published = isinstance(settings, TrainConfig) and settings.dino_init == "random" and name == "dino"
            set_layer_scale(student, _RANDOM_LAYER_SCALE if published else FRESH_LAYER_SCALE)
    return ensemble


def student_spec(settings: TrainConfig, name: StudentName, bands: Sequence[str]) -> StudentSpec:
    """The specification of a new student `name` with the settings' backbone and options."""
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
    """Set the LayerScale (the initial factor of the output of each block) of all transformer blocks to `value`."""
    for name, parameter in student.named_parameters():
        if "gamma" in name:
            nn.init.constant_(parameter, value)


def model_manifest(
    settings: RunConfig,
    data: Dataset,
    students: Mapping[str, StudentSpec],
    *,
    fusion: Fusion = "mean",
    taught_under: Sequence[str] = (),
    **facts: Any,
) -> Manifest:
    """The manifest of the model to train; `facts` are added to its facts about the training.

    `taught_under`: a phrase with the licence of each teacher model.
    """
    return Manifest(
        classes=tuple(data.classes.plain()),
        bands=data.bands,
        scaling=data.scaling,
        tile=settings.eval_tile or settings.crop,
        # validation that resizes whole images, as published, says nothing of the windows of maps
        overlap=USUAL_OVERLAP if settings.eval_resize else settings.eval_overlap,
        ground_resolution=data.ground_resolution,
        students=dict(students),  # type: ignore[arg-type]
        fusion=fusion,
        trained_on=settings.trained_on or _labels_of(data),
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


def _model_from_file(settings: TrainConfig, data: Dataset, students: Sequence[StudentName] | None) -> Ensemble:
    """A model for the classes and bands of the data, filled with the tensors of the model file `init` that fit.

    Raises:
        ModelError: the file holds a single student, which the method cannot train, or nothing in it fits.
    """
    assert settings.init is not None
    source = weights.load(settings.init)
    if SINGLE in source.students and settings.method in ("co2s", "unimatch"):
        raise ModelError(
            f"{settings.init}: holds a single student; method {settings.method} wants clip, dino or local",
            hint="--method fixmatch or supervised",
        )
    old = source.manifest
    if SINGLE in old.students and settings.students:
        raise ModelError(
            f"{settings.init}: holds a single student, which is none of {', '.join(settings.students)}",
            hint="leave out --students",
        )
    names: Sequence[str] = students or tuple(old.students)
    same_data = (old.class_map.names, old.bands) == (data.classes.names, data.bands)
    specs: dict[str, StudentSpec] = {}
    for name in names:
        old_spec = old.students.get(name)  # type: ignore[call-overload]
        if old_spec is not None:
            specs[name] = catalog.for_bands(old_spec, data.bands)
        elif name != SINGLE:
            specs[name] = student_spec(settings, name, data.bands)  # type: ignore[arg-type]
    if not same_data:  # with the same classes and bands the model keeps the band statistics that it was trained with
        statistics = data.statistics()
        specs = {name: catalog.standardized(spec, *statistics) for name, spec in specs.items()}
    manifest = model_manifest(settings, data, specs, fusion=settings.fusion)
    target = start_from(settings, source, build_model(settings, manifest, from_file=old.students))
    if {(item.name, item.prompts) for item in data.classes.classes} - {
        (item.name, item.prompts) for item in old.class_map.classes
    }:
        read_prompts(target, weights_of(settings))  # the file's prompts differ, even where class names are the same
    return target


def start_from(settings: RunConfig, source: Ensemble, target: Ensemble, *, leave: Sequence[str] = ()) -> Ensemble:
    """`target` after a copy of every tensor that fits from `source`, the model in the file `settings.init`.

    Tensors whose names begin with one of `leave` are not copied.

    Raises:
        ModelError: no tensor fits.
    """
    copied = transfer(source, target, leave=leave)
    if not any(count for count, _ in copied.taken.values()):
        file_students, wanted = ", ".join(source.students), ", ".join(target.students)
        raise ModelError(f"{settings.init}: no tensor in it fits (its students: {file_students}; wanted: {wanted})")
    log.info("%s: taken %s", settings.init, copied)
    return target


def _as_published(spec: GuidedSpec, options: dict[str, Any]) -> GuidedSpec:
    """The student as in the released code: ImageNet statistics, and `options` for its backbone."""
    backbone = spec.backbone.model_copy(update={"options": {**spec.backbone.options, **options}, **IMAGENET})
    return spec.model_copy(update={"backbone": backbone})


def _labels_of(data: Dataset) -> str:
    """How many images and pixels are labelled."""
    images = f"{data.labeled_images} labelled image{'s' * (data.labeled_images != 1)}"
    return f"{images}, {sum(data.counts):,} labelled pixels"


def _licence(settings: RunConfig, students: Mapping[str, StudentSpec], taught_under: Sequence[str]) -> str:
    """The licences of the weights that a run starts from, then those of its teachers, each named once."""
    return "; ".join(dict.fromkeys(text for text in (_inherited(settings, students), *taught_under) if text))


def _inherited(settings: RunConfig, students: Mapping[str, StudentSpec]) -> str:
    if settings.init is not None:
        return weights.read_manifest(settings.init).licence
    """The licence of the weights that a run starts from; empty where they ask for no mention."""
    weights_by_name = weights_of(settings)
    dinov3 = any(
        "dinov3" in spec.backbone.name and weights_by_name[name] != "none"
        for name, spec in students.items()
        if not isinstance(spec, LocalSpec)
    )
    return "DINOv3 weights carry Meta's DINOv3 licence" if dinov3 else ""
