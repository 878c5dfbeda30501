"""`co2s import`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.import_ import ImportConfig


@command(
    app,
    "import",
    ImportConfig,
    example="co2s import best_clip.pth best_dinov3.pth --dataset loveda --out loveda.safetensors",
)
def import_(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Convert the published Co2S checkpoints to one model file."""
    settings = load(ImportConfig, config, flags)
    from co2s_cli.jobs import early

    early.check_import(settings)
    from co2s_cli.jobs import import_ as job  # importing torch takes seconds: after all checks without it

    result = job.run(settings)
    echo_result(result, as_json=as_json, text=str(result.out))
