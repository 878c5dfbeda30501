"""`co2s pseudo-label`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, Log, command
from co2s_cli.config import load
from co2s_cli.config.pseudo_label import PseudoLabelConfig


@command(
    app, "pseudo-label", PseudoLabelConfig, example="co2s pseudo-label scene.tif --model best.safetensors --out round2"
)
def pseudo_label(flags: dict[str, Any], config: Config = None, as_json: Json = False, log: Log = "text") -> None:
    """Turn a model's confident predictions into labels, and write the data.yaml of the next round of training.

    The model runs only once: with another threshold and --overwrite, the same command reuses its predictions.
    """
    settings = load(PseudoLabelConfig, config, flags)
    from co2s_cli.jobs import early, scenes

    settings = scenes.list_scenes(settings)
    early.check_pseudo_label(settings)
    from co2s_cli.jobs import pseudo_label as job  # importing torch takes seconds: after all checks without it

    result = job.run(settings, progress=watcher(log))
    echo_result(result, as_json=as_json, text=result.text())
    result.check()
