"""Check the machine and the installed software, with advice on everything that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from co2s_cli.config.doctor import DoctorConfig
from co2s_cli.health import caches, geodata, machine, software
from co2s_cli.health.finding import Check, Finding
from co2s_cli.health.speed import speed
from co2s_cli.progress import SILENT, Progress

CHECKS: tuple[Check, ...] = (
    software.python,
    software.libraries,
    machine.device,
    machine.memory,
    machine.disk,
    geodata.gdal,
    geodata.proj,
    caches.pretrained,
)
"""The checks, in the order of the report; each takes less than a second."""


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """The findings of all checks."""

    findings: tuple[Finding, ...]

    @property
    def missing(self) -> tuple[Finding, ...]:
        """Findings without which some command of co2s cannot work."""
        return tuple(finding for finding in self.findings if finding.state == "missing")


def run(settings: DoctorConfig, progress: Progress = SILENT) -> DoctorResult:
    """Run every check; one that raises is reported as missing and does not stop the others."""
    checks: Sequence[Check] = (*CHECKS, *([speed] if settings.speed else []))
    findings: list[Finding] = []
    progress.start("checking", len(checks), "check")
    for check in checks:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - a broken installation may raise any error
            first_line = next(iter(str(error).strip().splitlines()), "")[:200]
            advice = "this part of the installation is broken: install co2s into a fresh virtual environment"
            findings.append(Finding(check.__name__, "missing", f"{type(error).__name__}: {first_line}", advice))
        progress.advance()
    progress.close()
    return DoctorResult(tuple(findings))
