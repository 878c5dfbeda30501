"""Download pretrained weights into the caches of timm and open_clip, for machines that will be offline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.config.fetch import FetchConfig
from co2s_cli.errors import ConfigError
from co2s_cli.models import hub
from co2s_cli.models.hub import HubWeights
from co2s_cli.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class WeightsLine:
    """One set of pretrained weights, and its file."""

    name: str
    size: int | None
    """Bytes of the file if it is cached, else by the table of known weights."""
    licence: str
    address: str
    path: Path | None
    """The file in the cache; None if it is not cached."""
    sha256: str | None
    """Hash of the file if it was read, else the published one; None if unknown."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The requested weights, or all known ones."""

    weights: tuple[WeightsLine, ...]


def run(settings: FetchConfig, progress: Progress = SILENT) -> FetchResult:
    """Download the weights that are not in the cache, all known ones by default; with --list only list them.

    Raises:
        ConfigError: a name that is not in the table, in timm or in open_clip.
        ModelError: the hub cannot be reached, or sends a file with another hash.
    """
    requested = _requested_weights(settings.names) if settings.names else list(hub.known_weights())
    if settings.show:
        return FetchResult(tuple(_line(weights, weights.cached()) for weights in requested))
    absent = [weights for weights in requested if weights.cached() is None]
    if absent and not hub.reachable(absent[0].address):
        raise hub.missing(absent)
    lines = []
    progress.start("fetching", len(requested), "file")
    for weights in requested:
        path = hub.fetch(weights)
        lines.append(_line(weights, path, hub.sha256_of(path)))
        progress.advance()
    progress.close()
    return FetchResult(tuple(lines))


def _requested_weights(names: Iterable[str]) -> list[HubWeights]:
    """The weights of some names, each once; the name of a group stands for its members."""
    groups = hub.groups()
    unique_names = dict.fromkeys(name for text in names for name in groups.get(text, (text,)))
    return list({weights.name: weights for weights in map(_weights_called, unique_names)}.values())


def _weights_called(name: str) -> HubWeights:
    listed_weights = hub.find_weights(name)
    if listed_weights is not None:
        return listed_weights
    from co2s_cli.models.pretrained import weights_called  # imports torch: only for names that are not in the table

    weights = weights_called(name)
    if weights is None:
        raise ConfigError(
            f"{name}: neither timm nor open_clip has weights of this name",
            hint=f"co2s fetch --list; a name is NETWORK.TAG or NETWORK:TAG, or a group: {', '.join(hub.groups())}",
        )
    return weights


def _line(weights: HubWeights, path: Path | None, digest: str | None = None) -> WeightsLine:
    size = weights.size if path is None else path.stat().st_size
    return WeightsLine(weights.name, size, weights.licence, weights.address, path, digest or weights.sha256)
