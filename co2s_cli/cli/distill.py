"""`co2s distill`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, flag
from co2s_cli.cli.runs import Extra, echo_run, in_one_voice, options
from co2s_cli.config import given
from co2s_cli.config.distill import DistillConfig, resumed, settings_of


@command(app, "distill", shared=options(DistillConfig))
def distill(
    data: Annotated[str | None, typer.Argument(help=DistillConfig.model_fields["data"].description)] = None,
    out: Annotated[Path | None, flag(DistillConfig, "out", "--out", "-o")] = None,
    student: Annotated[str | None, flag(DistillConfig, "student")] = None,
    student_weights: Annotated[str | None, flag(DistillConfig, "student_weights")] = None,
    teacher: Annotated[list[str] | None, flag(DistillConfig, "teacher", "--teacher", "-t")] = None,
    align: Annotated[str | None, flag(DistillConfig, "align")] = None,
    fuse: Annotated[bool | None, flag(DistillConfig, "fuse", "--fuse/--no-fuse")] = None,
    alpha: Annotated[float | None, flag(DistillConfig, "alpha")] = None,
    loss: Annotated[str | None, flag(DistillConfig, "loss")] = None,
    combine: Annotated[str | None, flag(DistillConfig, "combine")] = None,
    temperature: Annotated[float | None, flag(DistillConfig, "temperature")] = None,
    ema: Annotated[float | None, flag(DistillConfig, "ema")] = None,
    extra: Extra = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
    **shared: Any,
) -> None:
    """Train one student that also learns from teachers: foundation models by name, or trained models by file."""
    flags = given(
        data=data, out=out, student=student, student_weights=student_weights, teacher=teacher, align=align, fuse=fuse,
        alpha=alpha, loss=loss, combine=combine, temperature=temperature, ema=ema, overwrite=overwrite, **shared,
    )  # fmt: skip
    with in_one_voice():
        resumes = shared["resume"] and out
        settings = resumed(out, flags, extra or []) if resumes and out else settings_of(config, flags, extra or [])
        from co2s_cli.jobs import distill as job  # after parsing: --help must not wait for torch

        echo_run(job.run(settings, progress=watcher()), as_json=as_json)
