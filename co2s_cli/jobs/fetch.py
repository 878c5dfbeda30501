"""Bring pretrained weights into the caches of timm and open_clip, for machines that will be offline."""

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
    """Weights and where they are."""

    name: str
    size: int | None
    """Bytes: of the file, else as the table says."""
    licence: str
    address: str
    path: Path | None
    """The file in the cache; None where it is not there."""
    sha256: str | None
    """Hash of the file where it has been looked at, else as published; None where not known."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The weights that were asked for, or all known ones."""

    weights: tuple[WeightsLine, ...]


def run(settings: FetchConfig, progress: Progress = SILENT) -> FetchResult:
    """Fetch what is not in the cache; of all known weights, or those named, only tell with `show`.

    Raises:
        ConfigError: a name that neither the table, timm nor open_clip has.
        ModelError: the hub cannot be reached, or sends another file than it should.
    """
    wanted = _wanted(settings.names) if settings.names else list(hub.known_weights())
    if settings.show:
        return FetchResult(tuple(_line(weights, weights.cached()) for weights in wanted))
    absent = [weights for weights in wanted if weights.cached() is None]
    if absent and not hub.reachable(absent[0].address):
        raise hub.missing(absent)
    lines = []
    progress.start("fetching", len(wanted), "file")
    for weights in wanted:
        path = hub.fetch(weights)
        lines.append(_line(weights, path, hub.sha256_of(path)))
        progress.advance()
    progress.close()
    return FetchResult(tuple(lines))


def _wanted(names: Iterable[str]) -> list[HubWeights]:
    """The weights of some names, each once; the name of a group stands for those in it."""
    groups = hub.groups()
    spelled = dict.fromkeys(name for text in names for name in groups.get(text, (text,)))
    return list({weights.name: weights for weights in map(_found, spelled)}.values())


def _found(name: str) -> HubWeights:
    known = hub.find_weights(name)
    if known is not None:
        return known
    from co2s_cli.models.pretrained import weights_called  # loads torch: only for names that the table has not

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
