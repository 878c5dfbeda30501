"""`co2s sample-points`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.sample_points import SamplePointsConfig


@command(
    app, "sample-points", SamplePointsConfig, example="co2s sample-points map.tif --per-class 50 --out points.gpkg"
)
def sample_points(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Draw random points in every class of MAP, to label by eye and use in `co2s evaluate MAP POINTS --areas`."""
    settings = load(SamplePointsConfig, config, flags)
    from co2s_cli.jobs import sample_points as job  # after parsing: --help must not wait for rasterio

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text=str(result.out))
