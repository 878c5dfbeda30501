"""What the commands share that train: how a run is started and told of."""

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from co2s_cli import log
from co2s_cli.cli.common import echo_result
from co2s_cli.errors import Co2sError

Extra = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, as --config takes them.")
]


@contextlib.contextmanager
def in_one_voice() -> Iterator[None]:
    """Under torchrun, an error that ends several processes is told by one of them; to be entered before torch loads."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    if log.verbosity() <= 0:  # else torch's C++ part warns, once for each process, of parameters that might be unused
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    except Co2sError as error:
        from co2s_cli.training.runtime import first_to_say  # loads torch

        if first_to_say(error):
            raise
        raise typer.Exit(error.exit_code) from error


def echo_run(result: Any, *, as_json: bool) -> None:
    """The result of a run; under torchrun each process comes by here, and one of them speaks."""
    if os.environ.get("RANK", "0") == "0":
        echo_result(result, as_json=as_json, text=str(result.model))
