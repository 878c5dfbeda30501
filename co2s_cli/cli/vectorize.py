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
    """Turn the class raster RASTER, of any size, into polygons without gaps and overlaps."""
    settings = load(VectorizeConfig, config, flags)
    from co2s_cli.jobs import vectorize as job  # after parsing: --help must not wait for GDAL

    result = job.run(settings, progress=watcher())
    if str(settings.out) != "-":  # "-" writes the features to stdout
        echo_result(result, as_json=as_json, text=str(result.out))
