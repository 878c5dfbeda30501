"""Pretrained weights on the Hugging Face hub: which are known, which are in the cache, and how the others get there.

Imports neither torch nor timm, so that missing weights can be told before those are loaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ModelError, ResourceError

CONNECT_SECONDS = 5
"""How long the host of weights has to answer."""

_QUICK = "-quickgelu:"
"""Middle of the names of CLIP networks whose weights are those of the name without it."""
_BLOCK = 1 << 20
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A file of weights on the hub."""

    name: str
    """`NETWORK:TAG` of open_clip or `NETWORK.TAG` of timm."""
    repo: str
    files: tuple[str, ...]
    """Names that the file may have in the repository, the best first."""
    size: int | None = None
    """Bytes, to a thousandth; None where not known."""
    licence: str = "see the address"
    sha256: str | None = None
    """Of the first of the files; None where the hub alone tells it."""

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.name} ({show_bytes(self.size)})" if self.size else self.name

    @property
    def address(self) -> str:
        """Where the file is."""
        return f"{_constants().ENDPOINT}/{self.repo}/resolve/main/{self.files[0]}"

    @property
    def folder(self) -> Path:
        """Where a file that was fetched by hand is found; the hub's own downloads lie beside it."""
        return Path(_constants().HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}" / "snapshots" / "main"

    def cached(self) -> Path | None:
        """The file in the cache, as the hub's client or a hand has put it there."""
        from huggingface_hub import try_to_load_from_cache

        for name in self.files:
            path = try_to_load_from_cache(self.repo, name, cache_dir=_constants().HF_HUB_CACHE)
            if isinstance(path, str):
                return Path(path)
            if (self.folder / name).is_file():
                return self.folder / name
        return None


@cache
def known_weights() -> tuple[HubWeights, ...]:
    """Every file of the table in the package."""
    table = _table()
    return tuple(
        HubWeights(**{"repo": f"timm/{line['name']}", **line, "files": tuple(table[f"{library}_files"])})
        for library in ("timm", "clip")
        for line in table[library]
    )


def groups() -> Mapping[str, Sequence[str]]:
    """Names of weights by what wants them together, such as `default`."""
    wanted: Mapping[str, Sequence[str]] = _table()["groups"]
    return wanted


def find_weights(name: str) -> HubWeights | None:
    """The known weights called `name`; None where the table has none."""
    plain = name.replace(_QUICK, ":")
    return next((weights for weights in known_weights() if weights.name == plain), None)


def clip_weights(name: str, repo: str, file: str) -> HubWeights:
    """Those of a tag of open_clip, which may name its file."""
    return find_weights(name) or HubWeights(name, repo, (file,) if file else tuple(_table()["clip_files"]))


def timm_weights(name: str, repo: str) -> HubWeights:
    """Those of a pretrained network of timm."""
    return find_weights(name) or HubWeights(name, repo, tuple(_table()["timm_files"]))


def fetch(weights: HubWeights) -> Path:
    """The file, from the cache or else from the hub; its hash is checked where it is fetched.

    Raises:
        ModelError: the hub cannot be reached, has no such file, or sends another one.
        ResourceError: the disk of the cache has no room.
    """
    path = weights.cached()
    if path is not None:
        return path
    if not reachable(_constants().ENDPOINT):
        raise missing([weights])
    _check_room(weights)
    path = _downloaded(weights)
    wanted = weights.sha256 if path.name == weights.files[0] else None
    announced = path.resolve().name  # the hub's client names what it stores by the hash that the hub announced
    wanted = wanted or (announced if len(announced) == 64 else None)
    digest = sha256_of(path)
    if wanted not in (None, digest):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{weights.name}: the file that {weights.address} sent has the hash {digest}, wanted is {wanted}",
            hint="fetch it again; if it stays so, the file has changed or the way to it is not to be trusted",
        )
    return path


def missing(weights: Sequence[HubWeights], *, flags: str = "--clip-weights FILE or --dino-weights FILE") -> ModelError:
    """What is told of weights that are not in the cache where the hub cannot be reached; `flags` name a file."""
    names = " and ".join(item.title for item in weights)
    verb = "is" if len(weights) == 1 else "are"
    by_hand = "; ".join(f"{item.address} into {item.folder}" for item in weights)
    return ModelError(
        f"weights {names} {verb} not in the cache, and {urlsplit(_constants().ENDPOINT).hostname} cannot be reached",
        hint=f"on a machine with network: co2s fetch {' '.join(item.name for item in weights)}; by hand: {by_hand}; "
        f"or name a file: {flags}; or begin without pretrained weights: --preset small",
    )


def reachable(address: str) -> bool:
    """Whether the host of an address answers within seconds; behind a proxy that is for the proxy to find out."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    parts = urlsplit(address)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _downloaded(weights: HubWeights) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    told: BaseException | None = None
    for name in weights.files:
        try:
            return Path(hf_hub_download(weights.repo, name, cache_dir=_constants().HF_HUB_CACHE))
        except Exception as error:  # noqa: BLE001 - hub, network and disk raise what they like
            unreachable = isinstance(error, LocalEntryNotFoundError)  # what failed is behind it
            told = (error.__cause__ or error) if unreachable else error
            if unreachable or not isinstance(error, EntryNotFoundError):
                break
    said = next((line for line in str(told).strip().splitlines() if line.strip()), type(told).__name__)[:200]
    raise ModelError(
        f"{weights.name}: could not be fetched ({said})",
        hint=f"fetch it by hand: {weights.address} into {weights.folder}, or name a file",
    ) from told


def _check_room(weights: HubWeights) -> None:
    folder = weights.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if weights.size and free < weights.size * 1.05:
        raise ResourceError(
            f"{folder}: has {show_bytes(free)} free, {weights.title} wants more",
            hint="make room, or set HF_HOME to a folder on a larger disk",
        )


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = yaml.safe_load(
        files("co2s_cli.assets").joinpath("weights.yaml").read_text(encoding="utf-8")
    )
    return table


def _constants() -> Any:
    """The hub client's settings: address and cache, which the environment decides."""
    from huggingface_hub import constants

    return constants
