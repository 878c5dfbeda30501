"""Reads files of pretrained weights in the formats of their publishers, as tensors under the original names.

These are `.safetensors` files and `torch.save`d state dicts of Meta, timm and open_clip, OpenAI's TorchScript archives,
and the `model.safetensors` of Hugging Face transformers for DINOv2, DINOv3 and CLIP. Names are those of Meta and
OpenAI.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from co2s_cli.errors import InputError, ModelError, shown

Activation = Literal["quickgelu", "gelu"]
"""Activation in the MLPs of a CLIP: OpenAI's approximation x · σ(1.702 x) (QuickGELU), or the exact GELU."""

_WRAPPERS = ("state_dict", "model", "teacher")
"""Keys under which training programs store the state dict in a checkpoint."""

_ARCHIVE_FACTS = {"input_resolution", "context_length", "vocab_size"}
"""Names in OpenAI's archives that are settings, not weights."""

_DINO_NAMES = (
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
    (r"^(?:encoder\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".attn.{match[1][0]}."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.(?:up_proj|weights_in)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:down_proj|weights_out)\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
"""Patterns that turn transformers' names of DINOv2 and DINOv3 into Meta's, but for q, k and v as separate tensors."""

_CLIP_NAMES = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""Patterns that turn transformers' names of CLIP into OpenAI's, but for separate q, k, v and transposed projections."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, under the names of Meta, timm or OpenAI, whatever program wrote it.

    No pickled code is run; of TorchScript archives only the tensors are read.

    Raises:
        InputError: there is no such file.
        ModelError: it holds no readable weights, or some are NaN or infinite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    content = _read(path)
    for key in _WRAPPERS:
        if isinstance(content.get(key), dict):
            content = content[key]
    tensors = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{path}: holds no named tensors")
    check_stored(path, tensors)
    check_finite(path, tensors)
    return _from_transformers(tensors)


def check_stored(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are sparse, complex, or larger than their bytes in the file.

    A saved tensor may repeat one number a million times along each axis, and fills the memory once it is copied.

    Raises:
        ModelError: names the tensor.
    """
    for name, tensor in tensors.items():
        dense = tensor.layout == torch.strided and not tensor.is_complex()
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            sizes = " × ".join(map(str, tensor.shape))
            raise ModelError(f"{path}: {shown(name)} of {sizes} numbers is not stored as plain numbers")


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite: they cannot be trained, and a map would have no class anywhere.

    Raises:
        ModelError: names the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
            raise ModelError(
                f"{path}: {name} holds values that are no finite numbers",
                hint="the training has diverged, or the weights are too large for half precision, or the file is "
                "damaged: use another file",
            )


def activation_of(path: Path) -> Activation | None:
    """The activation that the CLIP in a file was trained with; None if neither the file nor its folder tell it.

    OpenAI trained all its archives with QuickGELU. For other files a `config.json` of transformers or an
    `open_clip_config.json` in the same folder names the activation.
    """
    if is_torchscript(path):
        return "quickgelu"
    for name in ("open_clip_config.json", "config.json"):
        facts = _json(path.parent / name)
        if name == "open_clip_config.json" and isinstance(facts.get("model_cfg"), dict):
            return "quickgelu" if facts["model_cfg"].get("quick_gelu") else "gelu"
        vision = facts.get("vision_config", facts)
        activation = vision.get("hidden_act") if isinstance(vision, dict) else None
        if activation in ("quick_gelu", "gelu"):
            return "quickgelu" if activation == "quick_gelu" else "gelu"
    return None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, such as OpenAI's `ViT-B-16.pt`."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read(path: Path) -> dict[str, Any]:
    """The mapping in a file; suffix and content decide in which format it is read."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if is_torchscript(path):
            return _scripted(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ModelError(f"{path}: cannot be read as weights", hint=_hint(path)) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # its only base class is Exception
            raise
        raise ModelError(f"{path}: cannot be read as weights ({error})", hint=_hint(path)) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds no named tensors", hint=_hint(path))
    return content


def _scripted(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive as float32; none of its methods is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch advises a new export, which only OpenAI could make
        archive: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return {name: value.float() for name, value in archive.state_dict().items() if name not in _ARCHIVE_FACTS}


def _hint(path: Path) -> str:
    if path.suffix in (".msgpack", ".h5", ".onnx", ".gguf", ".json"):
        return f"take model.safetensors of the same model, not {path.name}"
    return "wanted: a .safetensors file, a saved state dict of tensors, or OpenAI's TorchScript archive"


def _from_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the names of Hugging Face transformers under their publisher's names; others as they are."""
    names = tensors.keys()
    if "embeddings.cls_token" in names:
        joined = _joined(_renamed(tensors, _DINO_NAMES), "qkv.")
        if "pos_embed" not in joined:  # DINOv3, for which Meta's name of the registers differs from DINOv2's
            joined["storage_tokens"] = joined.pop("register_tokens")
        return joined
    if any(name.startswith("vision_model.") for name in names):
        joined = _joined(_renamed(tensors, _CLIP_NAMES), "in_proj_")
        for name in ("visual.proj", "text_projection"):
            if name in joined:  # transformers has a Linear, OpenAI a matrix that is multiplied from the right
                joined[name] = joined[name].T.contiguous()
        return joined
    return tensors


def _renamed(tensors: Mapping[str, Tensor], rules: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 - one rule after the other
        renamed[name] = value
    return renamed


def _joined(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors with query, key and value of each attention joined to `attn.{prefix}weight` and `attn.{prefix}bias`.

    Where the key has no bias, as in DINOv3, it gets zeros.
    """
    joined = {name: value for name, value in tensors.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name, query in tensors.items():
        if ".attn.q." not in name:
            continue
        others = [tensors.get(name.replace(".attn.q.", f".attn.{part}.")) for part in "kv"]
        parts = [query, *(torch.zeros_like(query) if part is None else part for part in others)]
        joined[name.replace(".attn.q.", f".attn.{prefix}")] = torch.cat(parts)
    return joined


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file or it holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
