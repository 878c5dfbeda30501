"""`co2s pseudo-label`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.cli.maps import options
from co2s_cli.config import given, load
from co2s_cli.config.pseudo_label import PseudoLabelConfig as P


@command(app, "pseudo-label", shared=options(P))
def pseudo_label(
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="SCENE", help=P.model_fields["scenes"].description)
    ] = None,
    out: Annotated[Path | None, flag(P, "out", "--out", "-o", "--output")] = None,
    model: Annotated[Path | None, flag(P, "model", "--model", "-m")] = None,
    agree: Annotated[str | None, flag(P, "agree")] = None,
    threshold: Annotated[float | None, flag(P, "threshold")] = None,
    threshold_per_class: Annotated[list[str] | None, flag(P, "threshold_per_class", metavar="auto|NAME=VALUE")] = None,
    share: Annotated[float | None, flag(P, "share")] = None,
    min_area: Annotated[int | None, flag(P, "min_area")] = None,
    keep_labels: Annotated[Path | None, flag(P, "keep_labels")] = None,
    truth: Annotated[Path | None, flag(P, "truth")] = None,
    weight: Annotated[str | None, flag(P, "weight")] = None,
    overwrite: Overwrite = None,
    config: Config = None,
    as_json: Json = False,
    **shared: Any,
) -> None:
    """Turn what a model is sure of into labels, and write the data.yaml of the next round of training.

    The model runs once: the same command with another threshold and --overwrite only cuts again what it has said.
    """
    flags = given(
        scenes=scenes, out=out, model=model, agree=agree, threshold=threshold,
        threshold_per_class=threshold_per_class, share=share, min_area=min_area, keep_labels=keep_labels,
        truth=truth, weight=weight, overwrite=overwrite, **shared,
    )  # fmt: skip
    settings = load(P, config, flags)
    from co2s_cli.jobs import pseudo_label as job  # torch loads in seconds: after the settings are known to be good

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text=result.text())
    result.check()
