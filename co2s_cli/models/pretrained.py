"""Pretrained backbone weights: by tag from open_clip or timm, or from a file; loaded after every initialisation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from timm.models import eva, load_state_dict_from_hf, vision_transformer
from torch import Tensor, nn

from co2s_cli.errors import InputError, ModelError
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.clip_tower import ClipBackbone
from co2s_cli.models.taps import Backbone

NONE = "none"


def load_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Fill `backbone` from `weights`: a file, a pretrained tag, or `none` to leave it as initialised.

    Every tensor of the backbone must be in the file with its own shape; what the file holds besides (a text tower, a
    classifier) is left alone.
    """
    if weights == NONE:
        return
    path = Path(weights)
    if isinstance(backbone, ClipBackbone):
        source = read_tensors(path if path.suffix else fetch_clip(name, weights))
        _fill(backbone.visual, _clip_tensors(source), f"{weights} for {name}")
    elif isinstance(backbone, TimmBackbone):
        source = read_tensors(path) if path.suffix else _fetch_timm(name, weights)
        _fill(backbone.vit, _timm_tensors(source, backbone.vit), f"{weights} for {name}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name in a .safetensors file or a `torch.save`d state dict; no pickled code is run."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"{path}: cannot be read as weights", hint="wanted: a .safetensors file, or a saved state dict of tensors"
        ) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: holds no tensors by name")
    return {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def fetch_clip(name: str, tag: str) -> Path:
    """The file of an open_clip pretrained tag, from the cache or the network."""
    facts = open_clip.get_pretrained_cfg(name, tag)
    if not facts:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or NONE
        raise ModelError(f"{name}: open_clip has no weights {tag!r} for it (known: {known})")
    try:
        return Path(open_clip.download_pretrained(facts))
    except Exception as error:
        raise ModelError(
            f"{name}: weights {tag!r} are neither in the cache nor to be had ({_first_line(error)})",
            hint="fetch them on a machine with network access and name the file",
        ) from error


def _fetch_timm(name: str, tag: str) -> dict[str, Tensor]:
    """The tensors of a timm pretrained tag, from the cache or the network."""
    architecture = name.partition(".")[0]
    known = [item.partition(".")[2] for item in timm.list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise ModelError(f"{architecture}: timm has no weights {tag!r} for it (known: {', '.join(known) or NONE})")
    facts: Any = timm.get_pretrained_cfg(f"{architecture}.{tag}")
    try:
        return dict(load_state_dict_from_hf(facts.hf_hub_id, weights_only=True))
    except Exception as error:
        raise ModelError(
            f"{architecture}: weights {tag!r} are neither in the cache nor to be had ({_first_line(error)})",
            hint="fetch them on a machine with network access and name the file",
        ) from error


def _clip_tensors(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's tensors of a whole CLIP, or of an image tower saved alone."""
    visual = {name.removeprefix("visual."): value for name, value in source.items() if name.startswith("visual.")}
    return visual or source


def _timm_tensors(source: dict[str, Tensor], vit: Any) -> dict[str, Tensor]:
    """The names that timm uses, for Meta's files (and for timm's own)."""
    convert = eva.checkpoint_filter_fn if isinstance(vit, timm.models.Eva) else vision_transformer.checkpoint_filter_fn
    return dict(convert(dict(source), vit))


def _fill(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise ModelError(f"{what}: {len(missing)} of {len(wanted)} tensors are not in it ({', '.join(missing[:3])}, …)")
    kept = {name: tensors[name] for name in wanted}
    bad = [name for name, value in kept.items() if value.shape != wanted[name].shape]
    if bad:
        found, want = tuple(kept[bad[0]].shape), tuple(wanted[bad[0]].shape)
        raise ModelError(f"{what}: {bad[0]} is {found}, wanted {want}")
    module.load_state_dict(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
