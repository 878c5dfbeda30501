"""`co2s sample`."""

from pathlib import Path
from typing import Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.config import given, load
from co2s_cli.config.sample import SampleConfig


@command(app, "sample")
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write into.")],
    size: Annotated[int | None, flag(SampleConfig, "size")] = None,
    seed: Annotated[int | None, flag(SampleConfig, "seed")] = None,
    classes: Annotated[str | None, flag(SampleConfig, "classes")] = None,
    bands: Annotated[int | None, flag(SampleConfig, "bands")] = None,
    dtype: Annotated[str | None, flag(SampleConfig, "dtype")] = None,
    tilt: Annotated[bool | None, flag(SampleConfig, "tilt", "--tilt")] = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> None:
    """Make a believable landscape with exact labels, a few percent of them to train with, and the data.yaml for it."""
    flags = given(
        folder=folder, size=size, seed=seed, classes=classes, bands=bands, dtype=dtype, tilt=tilt, overwrite=overwrite
    )
    settings = load(SampleConfig, config, flags)
    from co2s_cli.jobs import sample as job  # after parsing: --help must not wait for rasterio

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text="\n".join(str(path) for path in result.paths))
