"""Land-cover maps from large imagery and very few labels.

The functions do what the commands of their names do; settings go by the names that --help and YAML files have, with `_`
for `-`. What a user can mend is raised as a `Co2sError`. docs/python.md has examples.
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
    """Read a model file; see `Ensemble` for what it can do."""
    from co2s_cli.models.weights import load as read  # torch loads in seconds: only when a model is wanted

    return read(path, device)


def predict(scenes: str | Path | Sequence[str | Path], out: str | Path, **settings: Any) -> PredictResult:
    """Map one scene into the file `out`, or several into the folder `out`; settings as `PredictConfig` has them.

    Raises:
        Co2sError: what is wrong with the settings, the model or a scene; of several scenes, with a list of those.
    """
    from co2s_cli.config import load as checked
    from co2s_cli.config.predict import PredictConfig
    from co2s_cli.jobs.predict import run

    named = [scenes] if isinstance(scenes, str | os.PathLike) else list(scenes)
    result = run(checked(PredictConfig, None, _plain({**settings, "scenes": named, "out": out})))
    result.check()
    return result


def train(data: str | Path, out: str | Path, **settings: Any) -> RunResult:
    """Train on a data.yaml, or on a scene with `labels=`, into the folder `out`; settings as `TrainConfig` has them.

    With `resume=True` the run in `out` goes on, on its own data; with `resume="auto"` one begins where there is none.

    Raises:
        Co2sError: what is wrong with the settings, the data or the weights to begin with; all before the first step.
    """
    from co2s_cli.config.train import resumed, settings_of
    from co2s_cli.jobs.begin import settings_for_run
    from co2s_cli.jobs.train import run

    named = {"out": out} if settings.get("resume") is True else {"data": data, "out": out}
    return run(settings_for_run(settings_of, resumed, None, _plain({**settings, **named}), []))


def vectorize(raster: str | Path, out: str | Path, **settings: Any) -> VectorizeResult:
    """Make polygons of a class raster, format by the suffix of `out`; settings as `VectorizeConfig` has them.

    Raises:
        Co2sError: what is wrong with the settings, the raster or the output.
    """
    from co2s_cli.config import load as checked
    from co2s_cli.config.vectorize import VectorizeConfig
    from co2s_cli.jobs.vectorize import run

    return run(checked(VectorizeConfig, None, _plain({**settings, "raster": raster, "out": out})))


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with text in the place of paths, which every setting takes."""
    listed = {name: [_text(item) for item in value] for name, value in settings.items() if isinstance(value, list)}
    return {name: _text(value) for name, value in settings.items()} | listed


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def __getattr__(name: str) -> Any:
    """The classes that load numpy and rasterio: only when they are wanted."""
    if name == "Scene":
        from co2s_cli.geo.read.scene import Scene

        return Scene
    if name == "Window":
        from co2s_cli.tiling import Window

        return Window
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
