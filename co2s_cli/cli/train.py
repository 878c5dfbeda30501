"""`co2s train`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.cli.runs import Extra, echo_run, report_once
from co2s_cli.config.train import TrainConfig, resumed, settings_of
from co2s_cli.jobs.begin import settings_for_run


@command(app, "train", TrainConfig, example="co2s train data.yaml --out runs/first --preset small")
def train(flags: dict[str, Any], extra: Extra = None, config: Config = None, as_json: Json = False) -> None:
    """Train a model from few labels and many unlabelled pixels, both named in a data.yaml."""
    with report_once():
        settings = settings_for_run(settings_of, resumed, config, flags, extra or [])
        from co2s_cli.jobs import train as job  # importing torch takes seconds: after all checks without it

        echo_run(job.run(settings, progress=watcher()), as_json=as_json)
