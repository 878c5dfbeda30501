"""Pretrained backbone weights, by a tag of open_clip or timm or from a file; loaded after all initialisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import open_clip
import timm
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from co2s_cli.errors import ModelError
from co2s_cli.models import hub
from co2s_cli.models.backbone import TimmBackbone
from co2s_cli.models.clip_tower import ClipBackbone
from co2s_cli.models.clip_training import NONE, ClipWeights
from co2s_cli.models.hub import HubWeights
from co2s_cli.models.taps import Backbone
from co2s_cli.models.weight_files import read_tensors

_RGB = 3


def load_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Load `weights` into `backbone`: a file, a pretrained tag, or `none` to keep the initial weights.

    The file must hold every tensor of the backbone in its shape; other tensors (a text tower, a classifier) are
    ignored. For other bands than red, green and blue the filters of the patch embedding are made from those of red,
    green, blue.

    Raises:
        ModelError: tensors are missing or have other shapes, or there are no such weights.
    """
    if weights == NONE:
        return
    channels = backbone.spec.rgb
    path = Path(weights)
    if isinstance(backbone, ClipBackbone):
        _fill(
            backbone.visual,
            _image_tower(clip_tensors(name, weights)),
            f"{weights} for {name}",
            "conv1.weight",
            channels,
        )
    elif isinstance(backbone, TimmBackbone):
        source = read_tensors(path if path.suffix else fetch_timm(name, weights))
        _fill(
            backbone.vit,
            _timm_tensors(source, backbone.vit),
            f"{weights} for {name}",
            "patch_embed.proj.weight",
            channels,
        )


def clip_tensors(name: str, weights: str) -> dict[str, Tensor]:
    """The tensors of the CLIP `name` by name: from the file or the tag `weights`, downloaded if not in the cache."""
    parsed = ClipWeights.parse(name, weights)
    return read_tensors(parsed.file or fetch_clip(name, parsed.tag))


def fetch_clip(name: str, tag: str) -> Path:
    """The file of a pretrained tag of open_clip, downloaded if it is not in the cache."""
    facts = open_clip.get_pretrained_cfg(name, tag)
    if not facts:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or NONE
        raise ModelError(f"{name}: open_clip has no weights {tag!r} for it (known: {known})")
    weights = _clip_weights(name, tag)
    return hub.fetch(weights) if weights else _from_address(name, tag, facts)


def fetch_timm(name: str, tag: str) -> Path:
    """The file of a pretrained tag of timm, downloaded if it is not in the cache."""
    architecture = name.partition(".")[0]
    tags = [item.partition(".")[2] for item in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise ModelError(f"{architecture}: timm has no weights {tag!r} for it (known: {', '.join(tags) or NONE})")
    return hub.fetch(_timm_weights(f"{architecture}.{tag}"))


def weights_called(name: str) -> HubWeights | None:
    """The weights called `NETWORK:TAG` in open_clip or `NETWORK.TAG` in timm; None if they are on no hub."""
    network, colon, tag = name.partition(":")
    if colon:
        return _clip_weights(network, tag)
    return _timm_weights(name) if "." in name and name in timm.list_pretrained() else None


def _clip_weights(name: str, tag: str) -> HubWeights | None:
    """The weights of a tag of open_clip; None if they are not on the Hugging Face hub."""
    repo, _, file = str((open_clip.get_pretrained_cfg(name, tag) or {}).get("hf_hub", "")).rpartition("/")
    return hub.clip_weights(f"{name}:{tag}", repo, file) if repo else None


def _timm_weights(name: str) -> HubWeights:
    facts: Any = timm.get_pretrained_cfg(name)
    return hub.timm_weights(name, facts.hf_hub_id)


def _from_address(name: str, tag: str, facts: dict[str, Any]) -> Path:
    """The file of a tag that is not on the hub; open_clip downloads it into `~/.cache/clip`."""
    address = str(facts.get("url", ""))
    stored = Path("~/.cache/clip").expanduser() / Path(urlsplit(address).path).name
    if not stored.is_file() and not hub.reachable(address):
        raise ModelError(
            f"{name}: weights {tag!r} are not in the cache, and the network cannot be reached",
            hint=f"fetch {address} into {stored.parent}, or name a file, or begin without: --preset small",
        )
    try:
        return Path(open_clip.download_pretrained(facts))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise ModelError(f"{name}: weights {tag!r} could not be fetched ({reason})", hint=f"from {address}") from error


def _image_tower(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image tower, from a whole CLIP or an image tower saved on its own, without `visual.`."""
    visual = {name.removeprefix("visual."): value for name, value in source.items() if name.startswith("visual.")}
    return visual or source


def _timm_tensors(source: dict[str, Tensor], vit: Any) -> dict[str, Tensor]:
    """The tensors under timm's names, from files of Meta or of timm."""
    convert = eva.checkpoint_filter_fn if isinstance(vit, timm.models.Eva) else vision_transformer.checkpoint_filter_fn
    return dict(convert(dict(source), vit))


def _fill(module: nn.Module, tensors: dict[str, Tensor], what: str, first: str, channels: tuple[int, ...]) -> None:
    """Load `tensors` into `module`; `first` names the filters of the patch embedding, `what` the weights in errors."""
    state = module.state_dict()
    if first in tensors and tensors[first].shape[1] == _RGB != state[first].shape[1]:
        tensors = {**tensors, first: filters_of(tensors[first], channels)}
    missing = sorted(state.keys() - tensors.keys())
    if missing:
        raise ModelError(f"{what}: {len(missing)} of {len(state)} tensors are not in it ({', '.join(missing[:3])}, …)")
    needed = {name: tensors[name] for name in state}
    bad = [name for name, value in needed.items() if value.shape != state[name].shape]
    if bad:
        found, wanted = tuple(needed[bad[0]].shape), tuple(state[bad[0]].shape)
        raise ModelError(f"{what}: {bad[0]} is {found}, wanted {wanted}")
    module.load_state_dict(needed)


def filters_of(rgb: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Filters (width, N, h, w) for N bands, made from those of red, green and blue (width, 3, h, w).

    Each band gets the filter of its channel in `channels`, times 3 / N, so that the sum over the bands keeps its size.
    This is timm's rule, which repeats filters over the bands.
    """
    return rgb[:, list(channels)] * (_RGB / len(channels))
