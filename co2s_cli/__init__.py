"""Land-cover maps from large imagery and very few labels.

Each function does what the command of the same name does. Settings have the names that --help and YAML files give them,
with `_` for `-`. Errors that a user can fix are raised as `Co2sError`. docs/python.md has examples.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from co2s_cli.errors import Co2sError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from co2s_cli.geo.read.scene import Scene
    from co2s_cli.jobs.predict import PredictResult
    from co2s_cli.jobs.vectorize import VectorizeResult
    from co2s_cli.models.ensemble import Ensemble
    from co2s_cli.tiling import Window
    from co2s_cli.training.run import RunResult

__version__ = "0.1.0"
__all__ = ["Co2sError", "Scene", "Window", "__version__", "load", "predict", "train", "vectorize"]


def load(path: str | Path, device: str = "cpu") -> Ensemble:
    """Read a model file; `Ensemble` documents the methods of the model."""
    from co2s_cli.models.weights import load as read  # importing torch takes seconds: only when a model is loaded

    return read(path, device)


def predict(scenes: str | Path | Sequence[str | Path], out: str | Path, **settings: Any) -> PredictResult:
    """Map one scene to the file `out`, or several scenes to the folder `out`; settings are those of `PredictConfig`.

    Raises:
        Co2sError: settings, model or a scene are not valid; for several scenes the error lists those that failed.
    """
    from co2s_cli.config import load as checked
    from co2s_cli.config.predict import PredictConfig
    from co2s_cli.jobs.predict import run

    scene_list = [scenes] if isinstance(scenes, str | os.PathLike) else list(scenes)
    result = run(checked(PredictConfig, None, _plain({**settings, "scenes": scene_list, "out": out})))
    result.check()
    return result


def train(data: str | Path, out: str | Path, **settings: Any) -> RunResult:
    """Train on a data.yaml, or on a scene with `labels=`, into the folder `out`; settings are those of `TrainConfig`.

    `resume=True` continues the run in `out` on its own data; `resume="auto"` starts a new run if there is none.

    Raises:
        Co2sError: settings, data or initial weights are not valid; raised before the first step.
    """
    from co2s_cli.config.train import resumed, settings_of
    from co2s_cli.jobs.begin import settings_for_run
    from co2s_cli.jobs.train import run

    arguments = {"out": out} if settings.get("resume") is True else {"data": data, "out": out}
    return run(settings_for_run(settings_of, resumed, None, _plain({**settings, **arguments}), []))


def vectorize(raster: str | Path, out: str | Path, **settings: Any) -> VectorizeResult:
    """Turn a class raster into polygons, in the format of the suffix of `out`; settings are those of `VectorizeConfig`.

    Raises:
        Co2sError: settings, raster or output are not valid.
    """
    from co2s_cli.config import load as checked
    from co2s_cli.config.vectorize import VectorizeConfig
    from co2s_cli.jobs.vectorize import run

    return run(checked(VectorizeConfig, None, _plain({**settings, "raster": raster, "out": out})))


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with paths replaced by text, which every setting accepts."""
    listed = {name: [_text(item) for item in value] for name, value in settings.items() if isinstance(value, list)}
    return {name: _text(value) for name, value in settings.items()} | listed


def _text(value: Any) -> Any:
    """`value` as text if it is a path, else itself."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def __getattr__(name: str) -> Any:
    """Import `Scene` and `Window`, which load numpy and rasterio, only when they are used."""
    if name == "Scene":
        from co2s_cli.geo.read.scene import Scene

        return Scene
    if name == "Window":
        from co2s_cli.tiling import Window

        return Window
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
