"""The model that a run starts from: new students with their weights, or a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from co2s_cli.config.run import RunConfig
from co2s_cli.config.train import TrainConfig
from co2s_cli.data.areas import digest_of
from co2s_cli.data.dataset import Dataset
from co2s_cli.errors import InputError, ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.fresh import new_pair
from co2s_cli.models.manifest import IMAGENET, SINGLE, DenseSpec, Fusion, Manifest, StudentSpec
from co2s_cli.models.pair import Pair

_CHANNELS = 3
_RANDOM_LAYER_SCALE = 1e-5
FRESH_LAYER_SCALE = 0.1
"""timm starts at 1e-5, through which a network that trains from scratch for a short time learns next to nothing."""


def first_pair(settings: TrainConfig, data: Dataset) -> Pair:
    """The model before the first step.

    Raises:
        InputError: bands that the students cannot see.
        ModelError: weights or a model file that do not fit.
    """
    check_bands(data)
    return opened(settings, _from_file(settings, data) if settings.init else _fresh(settings, data))


def check_bands(data: Dataset) -> None:
    """Refuse bands that no student can see."""
    if len(data.bands) != _CHANNELS:
        raise InputError(
            f"data.yaml: {len(data.bands)} bands ({', '.join(data.bands)}), the students see {_CHANNELS}",
            hint="name three of them with bands:, they are picked from files that have more",
        )


def opened(settings: RunConfig, pair: Pair) -> Pair:
    """The pair with those parameters open to training that the settings choose."""
    part, found = settings.train_backbone, weights_of(settings)
    for name, student in pair.students.items():
        scratch = not settings.init and found[name] == "none"
        student.train_backbone(("all" if scratch else "attention") if part == "auto" else part)  # type: ignore[operator]
    return pair


def weights_of(settings: RunConfig) -> dict[str, str]:
    """The weights of each student's backbone, `auto` resolved."""
    found = {SINGLE: _resolved(settings.student_weights, settings.student or "")}
    if isinstance(settings, TrainConfig):
        found |= {"clip": settings.clip_weights, "dino": _resolved(settings.dino_weights, settings.dino)}
    return found


def _resolved(weights: str, name: str) -> str:
    return (name.partition(".")[2] or "none") if weights == "auto" else weights


def _fresh(settings: TrainConfig, data: Dataset) -> Pair:
    wanted = weights_of(settings)
    clip = catalog.clip_student(settings.clip, wanted["clip"])
    dino = catalog.dino_student(settings.dino)
    if settings.network == "published":
        clip = _as_published(clip, {"quick_gelu": False, "norm_eps": 1e-6})
        dino = _as_published(
            dino, {"norm_eps": 1e-6, **({"rope": "bfloat16"} if "dinov3" in dino.backbone.name else {})}
        )
    if settings.clip_guidance == "queries":
        clip = clip.model_copy(update={"guidance": "implicit"})
    torch.manual_seed(settings.seed)  # what no weights fill is drawn here, and nothing later draws from this stream
    random = settings.dino_init == "random"
    pair = new_pair(
        manifest(settings, data, {"clip": clip, "dino": dino}, fusion=settings.fusion),
        clip_weights=wanted["clip"],
        dino_weights="none" if random else wanted["dino"],
    )
    if random or wanted["dino"] == "none":
        set_layer_scale(pair.students["dino"], _RANDOM_LAYER_SCALE if random else FRESH_LAYER_SCALE)
    return pair


def set_layer_scale(student: nn.Module, value: float) -> None:
    """Let every block of a transformer without weights begin with this share of what it does."""
    for name, parameter in student.named_parameters():
        if "gamma" in name:
            nn.init.constant_(parameter, value)


def manifest(
    settings: RunConfig,
    data: Dataset,
    students: Mapping[str, StudentSpec | DenseSpec],
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
        trained_on=settings.trained_on
        or f"{len(data.labeled.sources)} labelled images, {sum(data.counts)} labelled pixels",
        training={
            "method": settings.lesson,
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


def _from_file(settings: TrainConfig, data: Dataset) -> Pair:
    assert settings.init is not None
    pair = load_for(settings.init, data)
    if SINGLE in pair.students and settings.method in ("co2s", "unimatch"):
        raise ModelError(
            f"{settings.init}: holds a single student; method {settings.method} wants the pair",
            hint="--method fixmatch or supervised",
        )
    pair.manifest = manifest(settings, data, pair.manifest.students, fusion=settings.fusion)  # type: ignore[arg-type]
    return pair


def load_for(path: Path, data: Dataset) -> Pair:
    """The model in a file, of the data's classes."""
    pair = weights.load(path)
    names = pair.manifest.class_map.names
    if names != data.classes.names:
        found, wanted = ", ".join(names), ", ".join(data.classes.names)
        raise ModelError(f"{path}: its classes are {found}; the data's are {wanted}", hint="leave --init out")
    return pair


def _as_published(spec: StudentSpec, options: dict[str, Any]) -> StudentSpec:
    backbone = spec.backbone.model_copy(update={"options": {**spec.backbone.options, **options}, **IMAGENET})
    return spec.model_copy(update={"backbone": backbone})


def _licence(settings: RunConfig, students: Mapping[str, StudentSpec | DenseSpec], taught_under: Sequence[str]) -> str:
    """What the weights that a run starts from bring along, then what its teachers do."""
    return "; ".join(dict.fromkeys(text for text in (_inherited(settings, students), *taught_under) if text))


def _inherited(settings: RunConfig, students: Mapping[str, StudentSpec | DenseSpec]) -> str:
    if settings.init is not None:
        return weights.read_manifest(settings.init).licence
    found = weights_of(settings)
    known = any("dinov3" in spec.backbone.name and found[name] != "none" for name, spec in students.items())
    return "DINOv3 weights carry Meta's DINOv3 licence" if known else ""
