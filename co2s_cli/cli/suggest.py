"""`co2s suggest`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.suggest import SuggestConfig


@command(
    app, "suggest", SuggestConfig,
    example="co2s suggest scene.tif --model best.safetensors --labels polygons.gpkg --out next.gpkg",
)  # fmt: skip
def suggest(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Suggest where to label SCENE next: boxes in which the model's students disagree, or all are unsure.

    Fill in `class` of the boxes, or draw polygons in them, then train again with the file as --labels.
    """
    settings = load(SuggestConfig, config, flags)
    from co2s_cli.jobs import early

    early.check_suggest(settings)
    from co2s_cli.jobs import suggest as job  # importing torch takes seconds: after all checks without it

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text=str(result.out))
