"""Look at the machine and at what is installed, and say what to do about what is missing."""

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
"""What is looked at, in the order in which it is told; each takes less than a second."""


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """What was found."""

    findings: tuple[Finding, ...]

    @property
    def missing(self) -> tuple[Finding, ...]:
        """What a command of co2s cannot do without."""
        return tuple(finding for finding in self.findings if finding.state == "missing")


def run(settings: DoctorConfig, progress: Progress = SILENT) -> DoctorResult:
    """Run every check; one that fails is told as missing and stops none of the others."""
    checks: Sequence[Check] = (*CHECKS, *([speed] if settings.speed else []))
    findings: list[Finding] = []
    progress.start("checking", len(checks), "check")
    for check in checks:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes
            said = next(iter(str(error).strip().splitlines()), "")[:200]
            advice = "this part of the installation is broken: install co2s into a fresh virtual environment"
            findings.append(Finding(check.__name__, "missing", f"{type(error).__name__}: {said}", advice))
        progress.advance()
    progress.close()
    return DoctorResult(tuple(findings))
