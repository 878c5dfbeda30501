"""`co2s import`."""

from pathlib import Path
from typing import Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.config import given, load
from co2s_cli.config.import_ import ImportConfig


@command(app, "import")
def import_(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CHECKPOINT...", help=ImportConfig.model_fields["checkpoints"].description),
    ] = None,
    dataset: Annotated[str | None, flag(ImportConfig, "dataset")] = None,
    out: Annotated[Path | None, flag(ImportConfig, "out", "--out", "-o")] = None,
    overwrite: Overwrite = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Turn the published Co2S checkpoints into one model file."""
    flags = given(checkpoints=checkpoints, dataset=dataset, out=out, overwrite=overwrite)
    settings = load(ImportConfig, config, flags)
    from co2s_cli.jobs import import_ as job  # torch loads in seconds: after the settings are known to be good

    result = job.run(settings)
    echo_result(result, as_json=as_json, text=str(result.out))
