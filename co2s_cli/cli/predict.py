"""`co2s predict`."""

from pathlib import Path
from typing import Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result
from co2s_cli.cli.options import Config, Json, Log, command
from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig


@command(app, "predict", PredictConfig, example="co2s predict scene.tif --out map.tif --model model.safetensors")
def predict(flags: dict[str, Any], config: Config = None, as_json: Json = False, log: Log = "text") -> None:
    """Label every pixel of each SCENE and write a Cloud-Optimized GeoTIFF with colours and class names.

    `co2s predict SCENE MAP` is short for `co2s predict SCENE --out MAP`, if MAP does not exist yet.
    """
    settings = load(PredictConfig, config, _with_map(flags))
    from co2s_cli.jobs import early, scenes

    settings = scenes.list_scenes(settings)
    early.check_predict(settings)
    from co2s_cli.jobs import predict as job  # importing torch takes seconds: after all checks without it

    result = job.run(settings, progress=watcher(log))
    echo_result(result, as_json=as_json, text=result.text())
    result.check()


def _with_map(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags with `out` set to the second of two names, if --out is not given and no such file exists."""
    scenes = flags.get("scenes", [])
    if "out" not in flags and len(scenes) == 2 and not Path(scenes[1]).exists() and Path(scenes[1]).suffix:
        return {**flags, "scenes": scenes[:1], "out": Path(scenes[1])}
    return flags
