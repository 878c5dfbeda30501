"""`co2s train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, flag
from co2s_cli.cli.runs import Extra, echo_run, in_one_voice, options
from co2s_cli.config import given
from co2s_cli.config.train import TrainConfig, resumed, settings_of


@command(app, "train", shared=options(TrainConfig))
def train(
    data: Annotated[str | None, typer.Argument(help=TrainConfig.model_fields["data"].description)] = None,
    out: Annotated[Path | None, flag(TrainConfig, "out", "--out", "-o")] = None,
    method: Annotated[str | None, flag(TrainConfig, "method")] = None,
    clip: Annotated[str | None, flag(TrainConfig, "clip")] = None,
    clip_weights: Annotated[str | None, flag(TrainConfig, "clip_weights")] = None,
    dino: Annotated[str | None, flag(TrainConfig, "dino")] = None,
    dino_weights: Annotated[str | None, flag(TrainConfig, "dino_weights")] = None,
    student: Annotated[str | None, flag(TrainConfig, "student")] = None,
    student_weights: Annotated[str | None, flag(TrainConfig, "student_weights")] = None,
    extra: Extra = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
    **shared: Any,
) -> None:
    """Train a model from a few labels and a large unlabelled scene, as data.yaml names them."""
    flags = given(
        data=data, out=out, method=method, clip=clip, clip_weights=clip_weights, dino=dino, dino_weights=dino_weights,
        student=student, student_weights=student_weights, overwrite=overwrite, **shared,
    )  # fmt: skip
    with in_one_voice():
        resumes = shared["resume"] and out
        settings = resumed(out, flags, extra or []) if resumes and out else settings_of(config, flags, extra or [])
        from co2s_cli.jobs import train as job  # after parsing: --help must not wait for torch

        echo_run(job.run(settings, progress=watcher()), as_json=as_json)
