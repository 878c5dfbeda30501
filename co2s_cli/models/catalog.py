"""Students by name: which backbone, which taps, which guidance. New models use CLIP as CLIP was trained."""

from __future__ import annotations

from typing import Any

import open_clip
import timm
import torch

from co2s_cli.errors import ConfigError
from co2s_cli.models.manifest import BackboneSpec, DecoderSpec, StudentSpec

TINY_CLIP = "tiny-clip"
TINY_DINO = "tiny-dino"
TINY_DECODER = DecoderSpec(width=32, skips=(16, 8), ups=(24, 16))

_TINY_SIZES: dict[str, Any] = {"embed_dim": 128, "depth": 4, "num_heads": 4}
_CLIP_MEAN, _CLIP_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def clip_student(name: str, weights: str = "none", decoder: DecoderSpec | None = None) -> StudentSpec:
    """The explicitly guided student on open_clip's image tower `name` (`ViT-B-16`, `ViT-L-14`, …, `tiny-clip`).

    Activation and statistics are those that `weights` (a pretrained tag) were trained with; without a tag OpenAI's.
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
    trained = open_clip.get_pretrained_cfg(name, weights) or {}
    options = _tower_options(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        width=vision["width"],
        layers=vision["layers"],
        head_width=vision.get("head_width", 64),
        output_width=config["embed_dim"],
        mlp_ratio=vision.get("mlp_ratio", 4.0),
        quick_gelu=bool(config.get("quick_gelu") or trained.get("quick_gelu", not trained)),
    )
    mean, std = tuple(trained.get("mean") or _CLIP_MEAN), tuple(trained.get("std") or _CLIP_STD)
    spec = BackboneSpec(library="open_clip", name=name, options=options, mean=mean, std=std)
    return _explicit(spec, decoder or DecoderSpec())


def dino_student(name: str, decoder: DecoderSpec | None = None) -> StudentSpec:
    """The implicitly guided student on timm's transformer `name` (DINOv3 or DINOv2; `tiny-dino`)."""
    sizes: dict[str, Any] = {}
    architecture = name
    if name == TINY_DINO:
        architecture, sizes, decoder = "vit_small_patch16_dinov3_qkvb", _TINY_SIZES, decoder or TINY_DECODER
    known = architecture.partition(".")[0]
    if not timm.is_model(known) or "dinov" not in known:
        raise ConfigError(
            f"{name}: timm has no DINO transformer of this name",
            hint="for example vit_base_patch16_dinov3_qkvb.lvd1689m, vit_small_patch14_dinov2.lvd142m, tiny-dino",
        )
    facts: Any = timm.get_pretrained_cfg(architecture)
    with torch.device("meta"):  # its sizes are wanted, not its numbers
        vit: Any = timm.create_model(known, num_classes=0, **sizes)
    depth = len(vit.blocks)
    epsilon = 1e-6 if "dinov2" in known else 1e-5  # as each was trained
    options = {"norm_eps": epsilon, **({"sizes": sizes} if sizes else {})}
    return StudentSpec(
        backbone=BackboneSpec(
            library="timm", name=architecture, options=options, mean=tuple(facts.mean), std=tuple(facts.std)
        ),
        taps=(depth // 4 - 1, 2 * depth // 3 - 1, depth - 1),
        guidance="implicit",
        guidance_width=vit.embed_dim,
        decoder=decoder or DecoderSpec(),
    )


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


def _explicit(backbone: BackboneSpec, decoder: DecoderSpec) -> StudentSpec:
    layers = backbone.options["layers"]
    return StudentSpec(
        backbone=backbone,
        taps=(0, layers // 3, layers - 1),
        guidance="explicit",
        guidance_width=backbone.options["output_width"],
        decoder=decoder,
    )
