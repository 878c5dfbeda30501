"""`co2s sample`."""

from pathlib import Path
from typing import Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.common import Config, Json, command, flag
from co2s_cli.config import given, load
from co2s_cli.config.sample import SampleConfig


@command(app, "sample")
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write into.")],
    size: Annotated[int | None, flag(SampleConfig, "size")] = None,
    seed: Annotated[int | None, flag(SampleConfig, "seed")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a believable landscape with exact labels."""
    settings = load(SampleConfig, config, given(folder=folder, size=size, seed=seed))
    typer.echo(settings)
