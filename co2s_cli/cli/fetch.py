"""`co2s fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result, table
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.fetch import FetchConfig
from co2s_cli.config.units import show_bytes

if TYPE_CHECKING:
    from co2s_cli.jobs.fetch import FetchResult


@command(app, "fetch", FetchConfig, example="co2s fetch default")
def fetch(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Download pretrained weights into the caches of timm and open_clip, for machines that will be offline."""
    settings = load(FetchConfig, config, flags)
    from co2s_cli.jobs import fetch as job  # after parsing: --help must not wait for the hub's client

    result = job.run(settings, progress=watcher())
    text = _listed(result) if settings.show else "\n".join(str(line.path) for line in result.weights)
    echo_result(result, as_json=as_json, text=text)


def _listed(result: FetchResult) -> str:
    rows = [
        (line.name, show_bytes(line.size) if line.size else "?", line.licence, "cached" if line.path else "–")
        for line in result.weights
    ]
    return "\n".join(table([("name", "size", "licence", "status"), *rows]))
