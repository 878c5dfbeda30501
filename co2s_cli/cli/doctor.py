"""`co2s doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import echo_result, table
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.doctor import DoctorConfig
from co2s_cli.errors import ResourceError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from co2s_cli.health.finding import Finding
    from co2s_cli.jobs.doctor import DoctorResult


@command(app, "doctor", DoctorConfig, example="co2s doctor")
def doctor(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Check what co2s needs on this machine, measure its speed, and say how to get what is missing."""
    settings = load(DoctorConfig, config, flags)
    if settings.gpu:
        _check_gpu(settings, as_json=as_json)
        return
    from co2s_cli.jobs import doctor as job  # after parsing: --help must not wait for psutil

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text="" if as_json else described(result))
    if result.missing:
        names = ", ".join(dict.fromkeys(finding.name for finding in result.missing))
        raise ResourceError(f"missing: {names}", hint="; ".join(dict.fromkeys(item.advice for item in result.missing)))


def _check_gpu(settings: DoctorConfig, *, as_json: bool) -> None:
    """Check and measure on a GPU; results are written to the folder one by one, as they come."""
    from co2s_cli.jobs.gpu import proof  # loads torch

    result = proof.run(settings.gpu_out, progress=watcher())
    echo_result(result, as_json=as_json, text=result.text())
    if result.failed:
        raise ResourceError(f"checks on the GPU failed: {', '.join(result.failed)}", hint=f"see {result.report}")


def described(result: DoctorResult) -> str:
    """The findings as text for people."""
    return printable("\n".join(table(row for finding in result.findings for row in _rows(finding))))


def _rows(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield finding.state, finding.name, finding.found
    if finding.advice:
        yield "", "", f"→ {finding.advice}"
