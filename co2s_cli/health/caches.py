"""Checks of pretrained weights: which the cache holds, and whether others can be fetched."""

from __future__ import annotations

from collections.abc import Iterator

from co2s_cli.config.units import show_bytes
from co2s_cli.health.finding import Finding
from co2s_cli.models import hub


def pretrained() -> Iterator[Finding]:
    """The weights of the default preset, then how many of the known others are cached."""
    wanted = [weights for name in hub.groups()["default"] if (weights := hub.find_weights(name))]
    absent = [weights for weights in wanted if weights.cached() is None]
    names = ", ".join(weights.name for weights in wanted)
    if not absent:
        yield Finding("weights", "ok", f"of the default preset ({names}) are cached")
    else:
        size = show_bytes(sum(weights.size or 0 for weights in absent))
        online = hub.reachable(absent[0].address)
        fetch = f"co2s fetch default ({size})" if online else "no network: see `co2s fetch default` for the addresses"
        yield Finding(
            "weights",
            "note",
            f"not cached: {', '.join(weights.name for weights in absent)}",
            f"{fetch}; --preset small wants none",
        )
    others = [weights for weights in hub.known_weights() if weights not in wanted and weights.cached()]
    if others:
        yield Finding("weights", "ok", f"cached as well: {', '.join(weights.name for weights in others)}")
