"""What the commands share that train: options, and how a run is started and told of."""

import os
from typing import Annotated, Any

import typer

from co2s_cli.cli.common import echo_result, flags
from co2s_cli.config.run import RunConfig

Extra = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, as --config takes them.")
]

_SHARED = (
    "preset", "root", "splits", "labeled_ratio", "steps", "epochs", "batch", "crop", "init", "seed", "device",
    "precision", "compile", "checkpointing", "accumulate", "resume", "stop_after",
)  # fmt: skip


def options(kind: type[RunConfig]) -> dict[str, Any]:
    """Options of every run, by the name of their setting, with the defaults of `kind`."""
    return flags(kind, *_SHARED)


def echo_run(result: Any, *, as_json: bool) -> None:
    """The result of a run; under torchrun each process comes by here, and one of them speaks."""
    if os.environ.get("RANK", "0") == "0":
        echo_result(result, as_json=as_json, text=str(result.model))
