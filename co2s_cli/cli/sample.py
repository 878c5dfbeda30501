"""`co2s sample`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.sample import SampleConfig


@command(app, "sample", SampleConfig, example="co2s sample land --size 2048 --seed 7")
def sample(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Make a synthetic scene with exact labels, a few percent of them for training, and its data.yaml."""
    settings = load(SampleConfig, config, flags)
    from co2s_cli.jobs import sample as job  # after parsing: --help must not wait for rasterio

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text="\n".join(str(path) for path in result.paths))
