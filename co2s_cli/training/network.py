"""The model that a run starts from: new students with their weights, or a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from co2s_cli.config.train import TrainConfig
from co2s_cli.data.dataset import Dataset
from co2s_cli.errors import InputError, ModelError
from co2s_cli.models import catalog, weights
from co2s_cli.models.fresh import new_pair
from co2s_cli.models.manifest import Manifest, StudentSpec
from co2s_cli.models.pair import Pair

_CHANNELS = 3
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_RANDOM_LAYER_SCALE = 1e-5
_FRESH_LAYER_SCALE = 0.1
"""timm starts at 1e-5, through which a network that trains from scratch for a short time learns next to nothing."""


def first_pair(settings: TrainConfig, data: Dataset) -> Pair:
    """The model before the first step.

    Raises:
        InputError: bands that the students cannot see.
        ModelError: weights or a model file that do not fit.
    """
    if len(data.bands) != _CHANNELS:
        raise InputError(
            f"data.yaml: {len(data.bands)} bands ({', '.join(data.bands)}), the students see {_CHANNELS}",
            hint="name three of them with bands:, they are picked from files that have more",
        )
    return _opened(settings, _from_file(settings, data) if settings.init else _fresh(settings, data))


def empty_pair(settings: TrainConfig, model: Path) -> Pair:
    """A model like the one in the file `model`, for a state to be loaded into."""
    return _opened(settings, Pair(weights.read_manifest(model)))


def _opened(settings: TrainConfig, pair: Pair) -> Pair:
    """The pair with those parameters open to training that the settings choose."""
    part = settings.train_backbone
    for name, student in pair.students.items():
        scratch = not settings.init and _weights_of(settings)[name] == "none"
        student.train_backbone(("all" if scratch else "attention") if part == "auto" else part)  # type: ignore[operator]
    return pair


def _weights_of(settings: TrainConfig) -> dict[str, str]:
    """The weights of each backbone, `auto` and `random` resolved."""
    dino = settings.dino_weights
    if dino == "auto":
        dino = settings.dino.partition(".")[2] or "none"
    return {"clip": settings.clip_weights, "dino": dino}


def _fresh(settings: TrainConfig, data: Dataset) -> Pair:
    wanted = _weights_of(settings)
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
        manifest(settings, data, {"clip": clip, "dino": dino}),
        clip_weights=wanted["clip"],
        dino_weights="none" if random else wanted["dino"],
    )
    if random or wanted["dino"] == "none":
        for name, parameter in pair.students["dino"].named_parameters():
            if "gamma" in name:
                torch.nn.init.constant_(parameter, _RANDOM_LAYER_SCALE if random else _FRESH_LAYER_SCALE)
    return pair


def manifest(settings: TrainConfig, data: Dataset, students: Mapping[str, StudentSpec]) -> Manifest:
    """What the model file will say about itself."""
    return Manifest(
        classes=tuple(data.classes.plain()),
        bands=data.bands,
        scaling=data.scaling,
        tile=settings.eval_tile or settings.crop,
        ground_resolution=data.ground_resolution,
        students=dict(students),  # type: ignore[arg-type]
        fusion=settings.fusion,
        trained_on=settings.trained_on
        or f"{len(data.labeled.sources)} labelled images, {sum(data.counts)} labelled pixels",
        training={"method": settings.method, "preset": settings.preset, "seed": settings.seed, "data": data.digest},
        licence=settings.licence or _licence(settings),
    )


def _from_file(settings: TrainConfig, data: Dataset) -> Pair:
    assert settings.init is not None
    pair = weights.load(settings.init)
    old = pair.manifest
    if old.class_map.names != data.classes.names:
        found, wanted = (", ".join(names) for names in (old.class_map.names, data.classes.names))
        raise ModelError(f"{settings.init}: its classes are {found}; the data's are {wanted}", hint="leave --init out")
    pair.manifest = manifest(settings, data, old.students)  # type: ignore[arg-type]
    return pair


def _as_published(spec: StudentSpec, options: dict[str, Any]) -> StudentSpec:
    backbone = spec.backbone.model_copy(update={"options": {**spec.backbone.options, **options}, **_IMAGENET})
    return spec.model_copy(update={"backbone": backbone})


def _licence(settings: TrainConfig) -> str:
    if "dinov3" in settings.dino and _weights_of(settings)["dino"] != "none":
        return "DINOv3 weights carry Meta's DINOv3 licence"
    return ""
