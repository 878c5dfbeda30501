"""Specifications of new students by name: backbone, taps, guidance. CLIP keeps the settings it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import open_clip
import timm
import torch

from co2s_cli.errors import ConfigError
from co2s_cli.models.clip_training import training_of
from co2s_cli.models.manifest import (
    BackboneSpec,
    DecoderSpec,
    DenseSpec,
    GuidedSpec,
    HeadSpec,
    LocalSpec,
    StudentSpec,
    TranslatorSpec,
)

TINY_CLIP = "tiny-clip"
TINY_DINO = "tiny-dino"
TINY_STUDENT, TINY_STUDENT_14 = "tiny-student", "tiny-student14"
TINY_DECODER = DecoderSpec(width=32, skips=(16, 8), ups=(24, 16))

_TINY_SIZES: dict[str, Any] = {"embed_dim": 128, "depth": 4, "num_heads": 4}
_TINY_VITS: dict[str, tuple[str, dict[str, Any]]] = {
    TINY_DINO: ("vit_small_patch16_dinov3_qkvb", _TINY_SIZES),
    TINY_STUDENT: ("vit_small_patch16_dinov3_qkvb", {"embed_dim": 96, "depth": 4, "num_heads": 3}),
    TINY_STUDENT_14: ("vit_small_patch14_dinov2", {"embed_dim": 96, "depth": 4, "num_heads": 3}),
}
_HEADS = (
    (1536, HeadSpec(features=384, widths=(1536, 1536, 1536, 1536))),
    (1024, HeadSpec(features=256, widths=(256, 512, 1024, 1024))),
    (768, HeadSpec(features=128, widths=(96, 192, 384, 768))),
    (384, HeadSpec(features=64, widths=(48, 96, 192, 384))),
    (0, HeadSpec(features=32, widths=(16, 32, 48, 64))),
)
"""Smallest width of a backbone, and the head for it. The last is for tiny models, the others are the published ones."""

RGB = ("red", "green", "blue")

_SIMILARITY_SCALE = 10.0

_STATISTICS = "statistics"
"""Key of a backbone option: `data` if, without pretrained weights, its mean and std are to be those of the data."""
_LOCAL_MEAN, _LOCAL_STD = 0.5, 0.25

S = TypeVar("S", GuidedSpec, DenseSpec, LocalSpec, StudentSpec)

_CLIP_MEAN, _CLIP_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def clip_student(name: str, weights: str = "none", decoder: DecoderSpec | None = None) -> GuidedSpec:
    """A student guided by explicit class vectors, on open_clip's image tower `name` (`ViT-B-16`, …, `tiny-clip`).

    Activation and statistics are those that `weights` (a pretrained tag, a file or none) were trained with.

    Raises:
        ConfigError: open_clip has no plain transformer of this name.
        ModelError: the activation that the weights in a file were trained with is unknown.
    """
    if name == TINY_CLIP:
        options = _tower_options(image_size=256, patch_size=16, width=128, layers=4, head_width=32, output_width=64)
        return _explicit(BackboneSpec(library="open_clip", name=name, options=options, mean=_CLIP_MEAN, std=_CLIP_STD),
                         decoder or TINY_DECODER)  # fmt: skip
    config = open_clip.get_model_config(name)
    vision = (config or {}).get("vision_cfg", {})
    if config is None or not isinstance(vision.get("layers"), int) or vision.get("timm_model_name"):
        towers = ", ".join(("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", TINY_CLIP))
        raise ConfigError(f"{name}: open_clip has no plain transformer of this name", hint=f"for example {towers}")
    trained = training_of(name, weights)
    options = _tower_options(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        width=vision["width"],
        layers=vision["layers"],
        head_width=vision.get("head_width", 64),
        output_width=config["embed_dim"],
        mlp_ratio=vision.get("mlp_ratio", 4.0),
        quick_gelu=trained.quick_gelu,
    )
    spec = BackboneSpec(library="open_clip", name=name, options=options, mean=trained.mean, std=trained.std)
    return _explicit(spec, decoder or DecoderSpec())


def dino_student(name: str, decoder: DecoderSpec | None = None) -> GuidedSpec:
    """A student guided by learnt class vectors, on timm's transformer `name` (DINOv3 or DINOv2; `tiny-dino`)."""
    if name == TINY_DINO:
        decoder = decoder or TINY_DECODER
    backbone, vit = _dino_backbone(name)
    depth = len(vit.blocks)
    return GuidedSpec(
        backbone=backbone,
        taps=(depth // 4 - 1, 2 * depth // 3 - 1, depth - 1),
        guidance="implicit",
        guidance_width=vit.embed_dim,
        decoder=decoder or DecoderSpec(),
    )


def dense_student(
    name: str,
    *,
    translators: Sequence[TranslatorSpec] = (),
    alpha: float = 0.8,
    align: Literal["second_pass", "pool"] = "pool",
    fuse: bool = True,
) -> DenseSpec:
    """The single dense student on timm's transformer `name` (DINOv2 or DINOv3; `tiny-student`, `tiny-student14`)."""
    backbone, vit = _dino_backbone(name)
    depth = len(vit.blocks)
    quarter = depth // 4
    return DenseSpec(
        backbone=backbone,
        taps=(4, 11, 17, 23) if depth == 24 else (quarter - 1, 2 * quarter - 1, 3 * quarter - 1, depth - 1),
        head=next(head for width, head in _HEADS if width <= vit.embed_dim),
        translators=tuple(translators),
        alpha=alpha,
        align=align,
        fuse=fuse,
    )


def local_student(bands: Sequence[str]) -> LocalSpec:
    """The local student for images with these bands."""
    return LocalSpec(mean=(_LOCAL_MEAN,) * len(bands), std=(_LOCAL_STD,) * len(bands))


def from_scratch(spec: GuidedSpec) -> GuidedSpec:
    """A guided student changed so that it can train without pretrained weights.

    The similarity map is added to its logits, which lifted a tiny DINO student on india-s2 from 54.7 to 62.0 mIoU. The
    skips of a CLIP student are normalised, without which its training collapses within 60 steps.
    """
    decoder = spec.decoder.model_copy(
        update={"similarity": _SIMILARITY_SCALE, "normed_skips": spec.guidance == "explicit"}
    )
    options = {**spec.backbone.options, _STATISTICS: "data"}
    return spec.model_copy(
        update={"decoder": decoder, "backbone": spec.backbone.model_copy(update={"options": options})}
    )


def standardized(spec: S, mean: tuple[float, ...], std: tuple[float, ...]) -> S:
    """The same student with the band statistics of the data, unless its weights were pretrained with others."""
    if isinstance(spec, LocalSpec):
        return spec.model_copy(update={"mean": mean, "std": std})
    if spec.backbone.options.get(_STATISTICS) != "data":
        return spec
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"mean": mean, "std": std})})


def for_bands(spec: S, bands: Sequence[str]) -> S:
    """The same student for images with these bands.

    Red, green and blue keep the pretrained filters and statistics of their channels; other bands start with those of
    red, green and blue in turn, by their position (see `pretrained.filters_of`).
    """
    if isinstance(spec, LocalSpec):
        return spec.model_copy(update=local_student(bands).model_dump(include={"mean", "std"}))
    backbone = spec.backbone
    names = [name.lower() for name in bands]
    channels = [RGB.index(name) if name in RGB else index % len(RGB) for index, name in enumerate(names)]
    if tuple(channels) == backbone.rgb:
        return spec
    mean, std = (tuple(values[c] for c in channels) for values in _rgb_statistics(backbone))
    options = {**backbone.options, "rgb": channels}
    adapted = backbone.model_copy(update={"options": options, "mean": mean, "std": std})
    return spec.model_copy(update={"backbone": adapted})


def _rgb_statistics(backbone: BackboneSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of red, green and blue, of a backbone that may be adapted to other bands already."""
    bands = [backbone.rgb.index(channel) if channel in backbone.rgb else 0 for channel in range(len(RGB))]
    return tuple(backbone.mean[band] for band in bands), tuple(backbone.std[band] for band in bands)


def _tower_options(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    layers: int,
    head_width: int,
    output_width: int,
    mlp_ratio: float = 4.0,
    quick_gelu: bool = True,
) -> dict[str, object]:
    return {
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "layers": layers,
        "heads": width // head_width,
        "mlp_ratio": mlp_ratio,
        "output_width": output_width,
        "quick_gelu": quick_gelu,
        "norm_eps": 1e-5,
    }


def _dino_backbone(name: str) -> tuple[BackboneSpec, Any]:
    """The DINO transformer that timm calls `name`, or a tiny one; and a copy without weights to read its sizes from."""
    name, sizes = _TINY_VITS.get(name, (name, {}))
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture) or "dinov" not in architecture:
        raise ConfigError(
            f"{name}: timm has no DINO transformer of this name",
            hint="for example vit_base_patch16_dinov3_qkvb.lvd1689m, vit_small_patch14_dinov2.lvd142m, tiny-dino",
        )
    facts: Any = timm.get_pretrained_cfg(name)
    with torch.device("meta"):  # only the sizes are needed: no memory for weights
        vit: Any = timm.create_model(architecture, num_classes=0, **sizes)
    epsilon = 1e-6 if "dinov2" in architecture else 1e-5  # as each was trained
    options = {"norm_eps": epsilon, **({"sizes": sizes} if sizes else {})}
    if "dinov2" in architecture and "reg4" not in architecture:  # networks with registers were trained with timm's rule
        options["positions"] = "meta"
    return BackboneSpec(library="timm", name=name, options=options, mean=tuple(facts.mean), std=tuple(facts.std)), vit


def _explicit(backbone: BackboneSpec, decoder: DecoderSpec) -> GuidedSpec:
    layers = backbone.options["layers"]
    return GuidedSpec(
        backbone=backbone,
        taps=(0, layers // 3, layers - 1),
        guidance="explicit",
        guidance_width=backbone.options["output_width"],
        decoder=decoder,
    )
