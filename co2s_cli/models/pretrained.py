"""Pretrained backbone weights: by tag from open_clip or timm, or from a file; loaded after every initialisation."""

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
    """Fill `backbone` from `weights`: a file, a pretrained tag, or `none` to leave it as initialised.

    Every tensor of the backbone must be in the file with its own shape; what the file holds besides (a text tower, a
    classifier) is left alone. Only the first filters may be those of red, green and blue where there are other bands.
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
    """The tensors of the CLIP `name`: from a file, from the cache, or from the network."""
    parsed = ClipWeights.parse(name, weights)
    return read_tensors(parsed.file or fetch_clip(name, parsed.tag))


def fetch_clip(name: str, tag: str) -> Path:
    """The file of an open_clip pretrained tag, from the cache or the network."""
    facts = open_clip.get_pretrained_cfg(name, tag)
    if not facts:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or NONE
        raise ModelError(f"{name}: open_clip has no weights {tag!r} for it (known: {known})")
    weights = _clip_weights(name, tag)
    return hub.fetch(weights) if weights else _from_address(name, tag, facts)


def fetch_timm(name: str, tag: str) -> Path:
    """The file of a timm pretrained tag, from the cache or the network."""
    architecture = name.partition(".")[0]
    known = [item.partition(".")[2] for item in timm.list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise ModelError(f"{architecture}: timm has no weights {tag!r} for it (known: {', '.join(known) or NONE})")
    return hub.fetch(_timm_weights(f"{architecture}.{tag}"))


def weights_called(name: str) -> HubWeights | None:
    """The weights that `NETWORK:TAG` of open_clip or `NETWORK.TAG` of timm names; None where neither has them."""
    network, colon, tag = name.partition(":")
    if colon:
        return _clip_weights(network, tag)
    return _timm_weights(name) if "." in name and name in timm.list_pretrained() else None


def _clip_weights(name: str, tag: str) -> HubWeights | None:
    """Those of an open_clip tag; None where they lie on no hub."""
    repo, _, file = str((open_clip.get_pretrained_cfg(name, tag) or {}).get("hf_hub", "")).rpartition("/")
    return hub.clip_weights(f"{name}:{tag}", repo, file) if repo else None


def _timm_weights(name: str) -> HubWeights:
    facts: Any = timm.get_pretrained_cfg(name)
    return hub.timm_weights(name, facts.hf_hub_id)


def _from_address(name: str, tag: str, facts: dict[str, Any]) -> Path:
    """The file of a tag that lies on no hub; open_clip keeps it in `~/.cache/clip`."""
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
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise ModelError(f"{name}: weights {tag!r} could not be fetched ({said})", hint=f"from {address}") from error


def _image_tower(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's tensors of a whole CLIP, or of an image tower saved alone."""
    visual = {name.removeprefix("visual."): value for name, value in source.items() if name.startswith("visual.")}
    return visual or source


def _timm_tensors(source: dict[str, Tensor], vit: Any) -> dict[str, Tensor]:
    """The names that timm uses, for Meta's files (and for timm's own)."""
    convert = eva.checkpoint_filter_fn if isinstance(vit, timm.models.Eva) else vision_transformer.checkpoint_filter_fn
    return dict(convert(dict(source), vit))


def _fill(module: nn.Module, tensors: dict[str, Tensor], what: str, first: str, channels: tuple[int, ...]) -> None:
    wanted = module.state_dict()
    if first in tensors and tensors[first].shape[1] == _RGB != wanted[first].shape[1]:
        tensors = {**tensors, first: filters_of(tensors[first], channels)}
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise ModelError(f"{what}: {len(missing)} of {len(wanted)} tensors are not in it ({', '.join(missing[:3])}, …)")
    kept = {name: tensors[name] for name in wanted}
    bad = [name for name, value in kept.items() if value.shape != wanted[name].shape]
    if bad:
        found, want = tuple(kept[bad[0]].shape), tuple(wanted[bad[0]].shape)
        raise ModelError(f"{what}: {bad[0]} is {found}, wanted {want}")
    module.load_state_dict(kept)


def filters_of(rgb: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Filters (width, N, h, w) for N bands out of those of red, green and blue (width, 3, h, w).

    Each band takes the filter of its channel, times 3 / N so that what is summed over the bands keeps its size: timm's
    rule, by which filters repeat over the bands.
    """
    return rgb[:, list(channels)] * (_RGB / len(channels))
