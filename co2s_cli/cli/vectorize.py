"""`co2s vectorize`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.vectorize import VectorizeConfig


@command(app, "vectorize", VectorizeConfig, example="co2s vectorize map.tif --out map.gpkg --min-area 20px")
def vectorize(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Make polygons of the class raster RASTER that fit together: no gap, no overlap, at any size."""
    settings = load(VectorizeConfig, config, flags)
    from co2s_cli.jobs import vectorize as job  # after parsing: --help must not wait for GDAL

    result = job.run(settings, progress=watcher())
    if str(settings.out) != "-":  # standard output is the features' then
        echo_result(result, as_json=as_json, text=str(result.out))
