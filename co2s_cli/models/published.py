"""Reads the authors' Co2S checkpoints (`best_clip.pth`, `best_dinov3.pth`) as models of this package.

Names and shapes are facts read off the files. The manifest keeps where the authors' network differs from the code of
CLIP and DINOv3: exact GELU, LayerNorm eps 1e-6, ImageNet statistics for CLIP, rotary positions in bfloat16.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.classes import ClassMap
from co2s_cli.errors import InputError, ModelError, one_line
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import (
    IMAGENET,
    USUAL_OVERLAP,
    BackboneSpec,
    DecoderSpec,
    GuidedSpec,
    Manifest,
    ModelScaling,
)
from co2s_cli.models.rope import Bfloat16Rope
from co2s_cli.models.weight_files import check_finite, check_stored

log = logging.getLogger(__name__)

Kind = Literal["clip", "dino"]

_HEAD = "decode_head."
_ASPP = {f"aspp.aspp_convs.{i}.0": f"pyramid.convs.{i}" for i in range(4)} | {
    f"aspp.aspp_convs.{i}.1": f"pyramid.norms.{i}" for i in range(4)
}
_DECODER = _ASPP | {
    "conv1": "embed",
    "aspp.aspp_convs.4.gap.1": "pyramid.convs.4",
    "aspp.aspp_convs.4.gap.2": "pyramid.norms.4",
    "aspp.project.0": "pyramid.project",
    "aspp.project.1": "pyramid.project_norm",
    "text_proj.0": "text",
    "skip_proj.0.0": "skips.0",
    "skip_proj.1.0": "skips.1",
    "head": "head",
}
_UP = {"up": "up", "conv.0": "conv1", "conv.1": "norm1", "conv.3": "conv2", "conv.4": "norm2"}
_MIXER = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn.attn": "attention",
    "attn.attn.out_proj": "attention.out_proj",
    "ffn.layers.0.0": "expand",
    "ffn.layers.1": "reduce",
}
_CLIP_BLOCK = {
    "ln1": "ln_1",
    "ln2": "ln_2",
    "attn.attn": "attn",
    "attn.attn.out_proj": "attn.out_proj",
    "ffn.layers.0.0": "mlp.c_fc",
    "ffn.layers.1": "mlp.c_proj",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published student, with its tensors under the authors' names without the prefix `module.`."""

    path: Path
    kind: Kind
    tensors: dict[str, Tensor]


def read(path: Path) -> Checkpoint:
    """Read one of the authors' files; pickled code in it is refused, never run.

    Raises:
        InputError: there is no such file.
        ModelError: it is damaged, or not one of the published students.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip() is not None:
            raise ModelError(f"{path}: is damaged, a checksum inside does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ModelError(f"{path}: not a PyTorch checkpoint of plain tensors, or cut short") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        raise ModelError(f'{path}: wants {{"model": tensors by name}}, as the published files hold')
    tensors = {str(name).removeprefix("module."): value for name, value in model.items()}
    check_stored(path, tensors)
    check_finite(path, tensors)
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise ModelError(f"{path}: {name} holds something else than floating-point numbers")
    if "backbone.pos_embed" in tensors and "_cached_text" in tensors:
        return Checkpoint(path, "clip", tensors)
    if "backbone.storage_tokens" in tensors and "text_provider.emb.weight" in tensors:
        return Checkpoint(path, "dino", tensors)
    raise ModelError(f"{path}: holds neither the published CLIP student nor the published DINOv3 student")


def assemble(
    checkpoints: list[Checkpoint],
    *,
    classes: ClassMap,
    tile: int,
    trained_on: str,
    ground_resolution: float | None = None,
) -> Ensemble:
    """A model of one or two published students, in eval mode.

    Raises:
        ModelError: two files of the same student, other classes, or not the published layout.
    """
    checkpoints = sorted(checkpoints, key=lambda checkpoint: checkpoint.kind)
    kinds = [checkpoint.kind for checkpoint in checkpoints]
    if len(set(kinds)) != len(kinds):
        raise ModelError(f"{checkpoints[1].path}: both files hold the {kinds[0]} student, one of each is wanted")
    for checkpoint in checkpoints:
        _check_classes(checkpoint, classes)
    manifest = Manifest(
        classes=tuple(classes.plain()),
        scaling=ModelScaling(dtype="uint8", low=(0, 0, 0), high=(255, 255, 255)),
        tile=tile,
        overlap=USUAL_OVERLAP,
        ground_resolution=ground_resolution,
        students={checkpoint.kind: _spec(checkpoint) for checkpoint in checkpoints},
        fusion="mean" if len(kinds) == 2 else kinds[0],
        trained_on=trained_on,
        training={"source": "published Co2S checkpoints"},
        licence="not stated by the authors; DINOv3 weights carry Meta's DINOv3 licence",
    )
    files = " and ".join(checkpoint.path.name for checkpoint in checkpoints)
    try:
        tensors = {
            f"students.{item.kind}.{name}": value.detach().clone().float()
            for item in checkpoints
            for name, value in _translate(item).items()
        }
        pair = Ensemble(manifest)
        pair.load_state_dict(tensors, strict=True, assign=True)
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(f"{files}: not the published layout ({one_line(error)})") from error
    return pair.eval()


def _check_classes(checkpoint: Checkpoint, classes: ClassMap) -> None:
    name = "_cached_text" if checkpoint.kind == "clip" else "text_provider.emb.weight"
    vectors = checkpoint.tensors[name]
    if vectors.ndim != 2:
        raise ModelError(f"{checkpoint.path}: {name} is {tuple(vectors.shape)}, one vector for each class is wanted")
    count = len(vectors)
    if count != len(classes):
        raise ModelError(
            f"{checkpoint.path}: {count} classes found, the data set has {len(classes)} ({', '.join(classes.names)})",
            hint="name the data set that it was trained on with --dataset",
        )


def _spec(checkpoint: Checkpoint) -> GuidedSpec:
    build = _clip_spec if checkpoint.kind == "clip" else _dino_spec
    try:
        return build(checkpoint.tensors)
    except KeyError as error:
        raise ModelError(f"{checkpoint.path}: not the published layout (misses {one_line(error)})") from error
    except (IndexError, ValueError, TypeError) as error:
        raise ModelError(f"{checkpoint.path}: not the published layout (other shapes or too few blocks)") from error


def _clip_spec(tensors: dict[str, Tensor]) -> GuidedSpec:
    patch = tensors["backbone.patch_embed.projection.weight"]
    width, output = len(patch), len(tensors["backbone.proj.weight"])
    layers = _count(tensors, r"backbone\.layers\.(\d+)\.")
    side = round((tensors["backbone.pos_embed"].shape[1] - 1) ** 0.5)
    options = {
        "image_size": side * patch.shape[-1],
        "patch_size": patch.shape[-1],
        "width": width,
        "layers": layers,
        "heads": width // 64,
        "mlp_ratio": len(tensors["backbone.layers.0.ffn.layers.0.0.bias"]) / width,
        "output_width": output,
        "quick_gelu": False,
        "norm_eps": 1e-6,
    }
    return GuidedSpec(
        backbone=BackboneSpec(library="open_clip", name="ViT-B-16", options=options, **IMAGENET),
        taps=(0, 4, layers - 1),
        guidance="explicit",
        guidance_width=output,
        decoder=_decoder_spec(tensors),
    )


def _dino_spec(tensors: dict[str, Tensor]) -> GuidedSpec:
    gammas = [value for name, value in tensors.items() if name.endswith(".gamma")]
    if gammas and all(torch.allclose(gamma.float(), torch.tensor(1e-5), rtol=1e-3, atol=0) for gamma in gammas):
        log.warning(
            "warning: every LayerScale of the DINOv3 student is 1e-5: its pretrained weights were overwritten before "
            "training, so its backbone is close to random"
        )
    _check_fixed(tensors)
    width = tensors["backbone.cls_token"].shape[-1]
    layers = _count(tensors, r"backbone\.blocks\.(\d+)\.")
    return GuidedSpec(
        backbone=BackboneSpec(
            library="timm",
            name="vit_base_patch16_dinov3_qkvb",
            options={
                "norm_eps": 1e-6,
                "rope": "bfloat16",
                "sizes": {"embed_dim": width, "depth": layers, "num_heads": width // 64},
            },
            **IMAGENET,
        ),
        taps=(2, 7, layers - 1),
        guidance="implicit",
        guidance_width=tensors["text_provider.emb.weight"].shape[1],
        decoder=_decoder_spec(tensors),
    )


def _check_fixed(tensors: dict[str, Tensor]) -> None:
    """Refuse a checkpoint whose constants differ from the published ones, which this package computes instead.

    Raises:
        ValueError: names the constant.
    """
    for name, value in tensors.items():
        if name.endswith("bias_mask"):
            q, k, v = value.chunk(3)
            if not (q == 1).all() or not (k == 0).all() or not (v == 1).all():
                raise ValueError(f"{name}: the masks of q, k and v are not 1, 0 and 1")
        elif name.endswith("periods") and not torch.equal(value.bfloat16(), Bfloat16Rope(len(value)).periods):
            raise ValueError(f"{name}: not the rotary periods of base 100")


def _decoder_spec(tensors: dict[str, Tensor]) -> DecoderSpec:
    return DecoderSpec(
        width=len(tensors["decode_head.conv1.weight"]),
        skips=(len(tensors["decode_head.skip_proj.0.0.weight"]), len(tensors["decode_head.skip_proj.1.0.weight"])),
        ups=(len(tensors["decode_head.up1.conv.0.weight"]), len(tensors["decode_head.up2.conv.0.weight"])),
    )


def _count(tensors: dict[str, Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for name in tensors if (match := re.match(pattern, name)))


def _translate(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The student's tensors under the names of this package."""
    backbone = _clip_backbone if checkpoint.kind == "clip" else _dino_backbone
    out = {f"decoder.{name}": value for name, value in decoder_tensors(checkpoint.tensors).items()}
    for name, value in checkpoint.tensors.items():
        if name.startswith(_HEAD):
            continue
        if name in ("_cached_text", "text_provider.emb.weight"):
            out["guidance.vectors"] = value
        elif name.startswith("backbone."):
            out |= {f"backbone.{key}": item for key, item in backbone(name.removeprefix("backbone."), value).items()}
        elif not name.startswith("text_provider."):
            raise ModelError(f"{checkpoint.path}: not the published layout (unknown tensor {name})")
    return out


def decoder_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors among the authors' `tensors`, under the names of this package."""
    return {_decoder_name(name.removeprefix(_HEAD)): value for name, value in tensors.items() if name.startswith(_HEAD)}


def _decoder_name(name: str) -> str:
    stem, leaf = _stem(name)
    if match := re.match(r"layers\.(\d)\.transformer\.(.+)", stem):
        return f"mixers.{match[1]}.{_MIXER[match[2]]}.{leaf}"
    if match := re.match(r"(up[12])\.(.+)", stem):
        return f"{match[1]}.{_UP[match[2]]}.{leaf}"
    return f"{_DECODER[stem]}.{leaf}"


def _clip_backbone(name: str, value: Tensor) -> dict[str, Tensor]:
    if name == "cls_token":
        return {"visual.class_embedding": value.flatten()}
    if name == "pos_embed":
        return {"visual.positional_embedding": value[0]}
    if name == "proj.weight":
        return {"visual.proj": value.flatten(1).T}
    stem, leaf = _stem(name)
    if match := re.match(r"layers\.(\d+)\.(.+)", stem):
        return {f"visual.transformer.resblocks.{match[1]}.{_CLIP_BLOCK[match[2]]}.{leaf}": value}
    outer = {"patch_embed.projection": "conv1", "ln0": "ln_pre", "ln1": "ln_post"}
    return {f"visual.{outer[stem]}.{leaf}": value}


def _dino_backbone(name: str, value: Tensor) -> dict[str, Tensor]:
    if name.endswith((".bias_mask", ".periods", "mask_token")):
        return {}
    if name.endswith("qkv.bias"):  # the authors' code masks the middle third, the bias of k, to zero
        q, _, v = value.chunk(3)
        stem = name.removesuffix("qkv.bias")
        return {f"vit.{stem}q_bias": q, f"vit.{stem}v_bias": v}
    name = re.sub(r"ls([12])\.gamma", r"gamma_\1", name).replace("storage_tokens", "reg_token")
    return {f"vit.{name}": value}


def _stem(name: str) -> tuple[str, str]:
    """Module and last part of a tensor's name; the fused attention tensors `in_proj_*` are last parts."""
    stem, _, leaf = name.rpartition(".")
    return stem, leaf
