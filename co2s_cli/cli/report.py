"""`co2s report`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.report import ReportConfig


@command(app, "report", ReportConfig, example="co2s report map.tif --image scene.tif --out report.html")
def report(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Write an HTML page that shows a map over its image, or a training run; it opens in any browser, offline."""
    settings = load(ReportConfig, config, flags)
    from co2s_cli.jobs import report as job  # after parsing: --help must not wait for rasterio

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text=str(result.out))
