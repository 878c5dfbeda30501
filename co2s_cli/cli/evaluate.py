"""`co2s evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result, table
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.evaluate import EvaluateConfig

if TYPE_CHECKING:
    from co2s_cli.jobs.areas import AreasResult
    from co2s_cli.jobs.evaluate import EvaluateResult


@command(app, "evaluate", EvaluateConfig, example="co2s evaluate map.tif truth.gpkg --attribute class --out report")
def evaluate(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Score MAP against TRUTH, or a model against the labels of a data.yaml.

    `co2s evaluate MAP TRUTH` works block by block, in constant memory. `co2s evaluate --model MODEL data.yaml` first
    maps the labelled areas, as co2s predict would. `co2s evaluate MAP POINTS --areas` estimates areas from a stratified
    random sample. Classes are matched by name if both sides have names.
    """
    settings = load(EvaluateConfig, config, flags)
    if settings.areas:
        from co2s_cli.jobs import areas

        estimated = areas.run(settings, progress=watcher())
        echo_result(estimated, as_json=as_json, text="" if as_json else described_areas(estimated))
        return
    from co2s_cli.jobs import early
    from co2s_cli.jobs import evaluate as job  # after parsing: --help must not wait for GDAL

    early.check_evaluate(settings)
    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text="" if as_json else described(result))


def described(result: EvaluateResult) -> str:
    """The result as text for people."""
    from co2s_cli.scoring.report import class_rows, percent, summary  # slow to import (numpy): only for a result

    students = [(f"mean IoU of {name} alone", percent(value)) for name, value in result.students.items()]
    lines = [f"{result.source} by {result.truth}, protocol {result.verdict.protocol}"]
    lines += [*table(class_rows(result.verdict)), "", *table([*summary(result.verdict), *students])]
    return "\n".join([*lines, str(result.out)] if result.out else lines)


def described_areas(result: AreasResult) -> str:
    """The estimated areas and accuracies as text for people."""
    from co2s_cli.scoring.area_verdict import area_rows, summary_rows

    lines = [f"{result.source} by {result.sample}, 95 % intervals"]
    lines += [*table(area_rows(result.verdict)), "", *table(summary_rows(result.verdict))]
    return "\n".join([*lines, str(result.out)] if result.out else lines)
