"""`co2s train`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.config import given
from co2s_cli.config.train import TrainConfig, resumed, settings_of


@command(app, "train")
def train(
    data: Annotated[str | None, typer.Argument(help=TrainConfig.model_fields["data"].description)] = None,
    out: Annotated[Path | None, flag(TrainConfig, "out", "--out", "-o")] = None,
    method: Annotated[str | None, flag(TrainConfig, "method")] = None,
    preset: Annotated[str | None, flag(TrainConfig, "preset")] = None,
    root: Annotated[Path | None, flag(TrainConfig, "root")] = None,
    splits: Annotated[Path | None, flag(TrainConfig, "splits")] = None,
    labeled_ratio: Annotated[str | None, flag(TrainConfig, "labeled_ratio")] = None,
    steps: Annotated[int | None, flag(TrainConfig, "steps")] = None,
    epochs: Annotated[int | None, flag(TrainConfig, "epochs")] = None,
    batch: Annotated[int | None, flag(TrainConfig, "batch")] = None,
    crop: Annotated[int | None, flag(TrainConfig, "crop")] = None,
    clip: Annotated[str | None, flag(TrainConfig, "clip")] = None,
    clip_weights: Annotated[str | None, flag(TrainConfig, "clip_weights")] = None,
    dino: Annotated[str | None, flag(TrainConfig, "dino")] = None,
    dino_weights: Annotated[str | None, flag(TrainConfig, "dino_weights")] = None,
    init: Annotated[Path | None, flag(TrainConfig, "init")] = None,
    seed: Annotated[int | None, flag(TrainConfig, "seed")] = None,
    device: Annotated[str | None, flag(TrainConfig, "device")] = None,
    precision: Annotated[str | None, flag(TrainConfig, "precision")] = None,
    compile_: Annotated[bool | None, flag(TrainConfig, "compile", "--compile")] = None,
    checkpointing: Annotated[bool | None, flag(TrainConfig, "checkpointing", "--checkpointing")] = None,
    accumulate: Annotated[int | None, flag(TrainConfig, "accumulate")] = None,
    resume: Annotated[bool | None, flag(TrainConfig, "resume", "--resume")] = None,
    stop_after: Annotated[int | None, flag(TrainConfig, "stop_after")] = None,
    extra: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, as --config takes them.")
    ] = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> None:
    """Train a model from a few labels and a large unlabelled scene, as data.yaml names them."""
    flags = given(
        data=data, out=out, method=method, preset=preset, root=root, splits=splits, labeled_ratio=labeled_ratio,
        steps=steps, epochs=epochs, batch=batch, crop=crop, clip=clip, clip_weights=clip_weights, dino=dino,
        dino_weights=dino_weights, init=init, seed=seed, device=device, precision=precision, compile=compile_,
        checkpointing=checkpointing, accumulate=accumulate, resume=resume, stop_after=stop_after, overwrite=overwrite,
    )  # fmt: skip
    settings = resumed(out, flags, extra or []) if resume and out else settings_of(config, flags, extra or [])
    from co2s_cli.jobs import train as job  # after parsing: --help must not wait for torch

    result = job.run(settings, progress=watcher())
    if os.environ.get("RANK", "0") == "0":  # under torchrun each process comes by here, one of them speaks
        echo_result(result, as_json=as_json, text=str(result.model))
