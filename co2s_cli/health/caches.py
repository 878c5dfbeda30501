"""Checks of pretrained weights: which are in the cache, and whether others can be downloaded."""

from __future__ import annotations

from collections.abc import Iterator

from co2s_cli.config.units import show_bytes
from co2s_cli.health.finding import Finding
from co2s_cli.models import hub


def pretrained() -> Iterator[Finding]:
    """Whether the weights of the default preset are cached, then which other known weights are."""
    default = [weights for name in hub.groups()["default"] if (weights := hub.find_weights(name))]
    missing = [weights for weights in default if weights.cached() is None]
    names = ", ".join(weights.name for weights in default)
    if not missing:
        yield Finding("weights", "ok", f"of the default preset ({names}) are cached")
    else:
        size = show_bytes(sum(weights.size or 0 for weights in missing))
        online = hub.reachable(missing[0].address)
        fetch = f"co2s fetch default ({size})" if online else "no network: see `co2s fetch default` for the addresses"
        yield Finding(
            "weights",
            "note",
            f"not cached: {', '.join(weights.name for weights in missing)}",
            f"{fetch}; --preset small needs none",
        )
    others = [weights for weights in hub.known_weights() if weights not in default and weights.cached()]
    if others:
        yield Finding("weights", "ok", f"also cached: {', '.join(weights.name for weights in others)}")
