"""Shared by the commands that train: the option --set, and output by one process only."""

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from co2s_cli import log
from co2s_cli.cli.common import echo_result
from co2s_cli.errors import Co2sError

Extra = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the --config file; may be repeated."),
]


@contextlib.contextmanager
def report_once() -> Iterator[None]:
    """Under torchrun, let only one process report an error that ends several. Enter it before torch is imported."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    if log.verbosity() <= 0:  # silences torch's C++ warning, in each process, of parameters that might be unused
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    except Co2sError as error:
        from co2s_cli.training.runtime import first_to_say  # loads torch

        if first_to_say(error):
            raise
        raise typer.Exit(error.exit_code) from error


def echo_run(result: Any, *, as_json: bool) -> None:
    """Print the result of a run; under torchrun only rank 0 does."""
    if os.environ.get("RANK", "0") == "0":
        echo_result(result, as_json=as_json, text=str(result.model))
