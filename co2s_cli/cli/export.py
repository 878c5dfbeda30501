"""`co2s export`."""

from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.export import ExportConfig


@command(app, "export", ExportConfig, example="co2s export model.safetensors --onnx model.onnx")
def export(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Export a model to an ONNX file, for QGIS (Deepness) and other programs that run ONNX."""
    settings = load(ExportConfig, config, flags)
    from co2s_cli.jobs import early

    early.check_export(settings)
    from co2s_cli.jobs import export as job  # after parsing: --help must not wait for torch

    result = job.run(settings)
    echo_result(result, as_json=as_json, text=str(result.out))
