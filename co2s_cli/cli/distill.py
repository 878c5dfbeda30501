"""`co2s distill`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.cli.runs import Extra, echo_run, report_once
from co2s_cli.config.distill import DistillConfig, resumed, settings_of
from co2s_cli.jobs.begin import settings_for_run


@command(app, "distill", DistillConfig, example="co2s distill data.yaml --teacher best.safetensors --out runs/small")
def distill(flags: dict[str, Any], extra: Extra = None, config: Config = None, as_json: Json = False) -> None:
    """Train one student with the help of teachers: foundation models (by name) or trained models (by file)."""
    with report_once():
        settings = settings_for_run(settings_of, resumed, config, flags, extra or [])
        from co2s_cli.jobs import distill as job  # importing torch takes seconds: after all checks without it

        echo_run(job.run(settings, progress=watcher()), as_json=as_json)
