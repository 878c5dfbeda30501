"""Pretrained weights on the Hugging Face hub: the table of known ones, the local cache, downloads into it.

Imports neither torch nor timm, so that missing weights are reported before those are loaded.
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
"""Seconds in which the host of the weights has to accept a connection."""

_QUICK = "-quickgelu:"
"""Part of names of CLIP networks; their weights are those of the name with ":" in its place."""
_BLOCK = 1 << 20
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A file of pretrained weights on the hub."""

    name: str
    """`NETWORK:TAG` of open_clip or `NETWORK.TAG` of timm."""
    repo: str
    files: tuple[str, ...]
    """Names that the file may have in the repository, in the order of preference."""
    size: int | None = None
    """Bytes, accurate to a thousandth; None if unknown."""
    licence: str = "see the address"
    sha256: str | None = None
    """SHA-256 of `files[0]`; None if only the hub knows it."""

    @property
    def title(self) -> str:
        """Name, and size if known."""
        return f"{self.name} ({show_bytes(self.size)})" if self.size else self.name

    @property
    def address(self) -> str:
        """URL of the file."""
        return f"{_constants().ENDPOINT}/{self.repo}/resolve/main/{self.files[0]}"

    @property
    def folder(self) -> Path:
        """Folder in the cache for a file that the user fetches by hand; downloads of the hub client lie next to it."""
        return Path(_constants().HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}" / "snapshots" / "main"

    def cached(self) -> Path | None:
        """The file in the cache, put there by the hub client or by hand; None if it is not there."""
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
    """All weights in the table of the package."""
    table = _table()
    return tuple(
        HubWeights(**{"repo": f"timm/{line['name']}", **line, "files": tuple(table[f"{library}_files"])})
        for library in ("timm", "clip")
        for line in table[library]
    )


def groups() -> Mapping[str, Sequence[str]]:
    """Names of weights that are used together, by the name of the group, such as `default`."""
    names_by_group: Mapping[str, Sequence[str]] = _table()["groups"]
    return names_by_group


def find_weights(name: str) -> HubWeights | None:
    """The weights in the table called `name`; None if it has none."""
    plain = name.replace(_QUICK, ":")
    return next((weights for weights in known_weights() if weights.name == plain), None)


def clip_weights(name: str, repo: str, file: str) -> HubWeights:
    """The weights `name` of open_clip: from the table, else `file` in `repo`, or the usual file if that is empty."""
    return find_weights(name) or HubWeights(name, repo, (file,) if file else tuple(_table()["clip_files"]))


def timm_weights(name: str, repo: str) -> HubWeights:
    """The weights `name` of timm: from the table, else the usual file in `repo`."""
    return find_weights(name) or HubWeights(name, repo, tuple(_table()["timm_files"]))


def fetch(weights: HubWeights) -> Path:
    """Path of the file in the cache, after a download from the hub if needed; the hash of a download is checked.

    Raises:
        ModelError: the hub cannot be reached, has no such file, or sends a file with another hash.
        ResourceError: the disk of the cache is too full.
    """
    path = weights.cached()
    if path is not None:
        return path
    if not reachable(_constants().ENDPOINT):
        raise missing([weights])
    _check_room(weights)
    path = _downloaded(weights)
    expected = weights.sha256 if path.name == weights.files[0] else None
    blob_name = path.resolve().name  # the hub client names a stored file by the hash that the hub announced
    expected = expected or (blob_name if len(blob_name) == 64 else None)
    digest = sha256_of(path)
    if expected not in (None, digest):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{weights.name}: the file that {weights.address} sent has the hash {digest}, wanted is {expected}",
            hint="fetch it again; if that fails too, the file has changed or the connection cannot be trusted",
        )
    return path


def missing(weights: Sequence[HubWeights], *, flags: str = "--clip-weights FILE or --dino-weights FILE") -> ModelError:
    """The error for weights that are neither in the cache nor can be fetched; `flags` by which a file can be given."""
    names = " and ".join(item.title for item in weights)
    verb = "is" if len(weights) == 1 else "are"
    by_hand = "; ".join(f"{item.address} into {item.folder}" for item in weights)
    return ModelError(
        f"weights {names} {verb} not in the cache, and {urlsplit(_constants().ENDPOINT).hostname} cannot be reached",
        hint=f"on a machine with network: co2s fetch {' '.join(item.name for item in weights)}; by hand: {by_hand}; "
        f"or name a file: {flags}; or begin without pretrained weights: --preset small",
    )


def reachable(address: str) -> bool:
    """Whether the host of an address accepts a connection within `CONNECT_SECONDS`; behind a proxy always True."""
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

    """Download the file, under the first of its names that the repository has."""
    cause: BaseException | None = None
    for name in weights.files:
        try:
            return Path(hf_hub_download(weights.repo, name, cache_dir=_constants().HF_HUB_CACHE))
        except Exception as error:  # noqa: BLE001 - hub, network and disk raise exceptions of many types
            unreachable = isinstance(error, LocalEntryNotFoundError)  # its cause is the failure itself
            cause = (error.__cause__ or error) if unreachable else error
            if unreachable or not isinstance(error, EntryNotFoundError):
                break
    reason = next((line for line in str(cause).strip().splitlines() if line.strip()), type(cause).__name__)[:200]
    raise ModelError(
        f"{weights.name}: could not be fetched ({reason})",
        hint=f"fetch it by hand: {weights.address} into {weights.folder}, or name a file",
    ) from cause


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
    """Settings of the hub client, among them address and cache folder, as environment variables set them."""
    from huggingface_hub import constants

    return constants
