"""`co2s evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag, table
from co2s_cli.config import given, load
from co2s_cli.config.evaluate import EvaluateConfig as E

if TYPE_CHECKING:
    from co2s_cli.jobs.evaluate import EvaluateResult


@command(app, "evaluate")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="MAP|DATA", help=E.model_fields["source"].description)],
    truth: Annotated[Path | None, typer.Argument(metavar="TRUTH", help=E.model_fields["truth"].description)] = None,
    model: Annotated[Path | None, flag(E, "model", "--model", "-m")] = None,
    split: Annotated[str | None, flag(E, "split")] = None,
    protocol: Annotated[str | None, flag(E, "protocol")] = None,
    exclude: Annotated[str | None, flag(E, "exclude", metavar="NAME,…")] = None,
    missing: Annotated[str | None, flag(E, "missing")] = None,
    attribute: Annotated[str | None, flag(E, "attribute")] = None,
    values: Annotated[list[str] | None, flag(E, "values", metavar="VALUE=CLASS,…")] = None,
    classes: Annotated[Path | None, flag(E, "classes")] = None,
    tolerance: Annotated[float | None, flag(E, "tolerance")] = None,
    confidence: Annotated[str | None, flag(E, "confidence")] = None,
    bins: Annotated[int | None, flag(E, "bins")] = None,
    out: Annotated[Path | None, flag(E, "out", "--out", "-o", "--output")] = None,
    fusion: Annotated[str | None, flag(E, "fusion")] = None,
    tile: Annotated[int | None, flag(E, "tile", "--tile", "--patch-size")] = None,
    overlap: Annotated[float | None, flag(E, "overlap")] = None,
    batch: Annotated[int | None, flag(E, "batch", "--batch", "--batch-size")] = None,
    device: Annotated[str | None, flag(E, "device")] = None,
    precision: Annotated[str | None, flag(E, "precision")] = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> None:
    """Say how right MAP is by TRUTH, or a model by the labels of a data.yaml.

    `co2s evaluate MAP TRUTH` counts block by block, in the same memory at any size. `co2s evaluate --model M data.yaml`
    maps the labelled areas first, as predict would. Classes are matched by name where both sides have names.
    """
    flags = given(
        source=source, truth=truth, model=model, split=split, protocol=protocol, exclude=exclude, missing=missing,
        attribute=attribute, values=values, classes=classes, tolerance=tolerance, confidence=confidence, bins=bins,
        out=out, fusion=fusion, tile=tile, overlap=overlap, batch=batch, device=device, precision=precision,
        overwrite=overwrite,
    )  # fmt: skip
    settings = load(E, config, flags)
    from co2s_cli.jobs import evaluate as job  # after parsing: --help must not wait for GDAL

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text="" if as_json else described(result))


def described(result: EvaluateResult) -> str:
    """The result as lines for people."""
    from co2s_cli.scoring.report import class_rows, percent, summary  # numpy and more: only where there is a result

    students = [(f"mean IoU of {name} alone", percent(value)) for name, value in result.students.items()]
    lines = [f"{result.source} by {result.truth}, protocol {result.verdict.protocol}"]
    lines += [*table(class_rows(result.verdict)), "", *table([*summary(result.verdict), *students])]
    return "\n".join([*lines, str(result.out)] if result.out else lines)
