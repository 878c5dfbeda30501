"""Run all GPU checks and measurements, each in a process with a time limit; the report is updated after each."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from co2s_cli import __version__
from co2s_cli.errors import InterruptError, OutputError
from co2s_cli.files import check_writable, write_text
from co2s_cli.jobs.gpu.figures import FIGURES
from co2s_cli.jobs.gpu.maps import CHECKS as MAPS
from co2s_cli.jobs.gpu.report import markdown
from co2s_cli.jobs.gpu.runs import CHECKS as RUNS
from co2s_cli.jobs.gpu.task import SKIPPED, TRACE
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)

REPORT, FIGURES_FILE = "report.md", "figures.json"

LIMIT_SECONDS = 24 * 60
"""Time limit of everything together: half an hour with a GPU is enough."""

CHECK_SECONDS, FIGURE_SECONDS = 90, 300
"""Time limits of one check and of one measurement."""

_SHORTEST = 20
"""With fewer seconds left nothing is started any more: loading the libraries alone takes about ten."""

_SCRATCH = ".work-"
"""Prefix of the temporary folders for scenes and maps."""

State = Literal["passed", "failed", "skipped", "late", "cut", "not begun"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one check or measurement ended."""

    name: str
    kind: Literal["check", "figure"]
    state: State
    """late: it exceeded its time limit; cut: it was interrupted by a signal."""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    """Values by the name of the figure; also those that were measured before an early end."""
    error: str = ""
    """Last line of its stderr if it did not pass."""


@dataclass(frozen=True, slots=True)
class ProofResult:
    """Outcomes of all checks and measurements; empty on a machine without a GPU."""

    folder: Path
    machine: dict[str, Any]
    outcomes: tuple[Outcome, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks and measurements that did not pass."""
        return tuple(outcome.name for outcome in self.outcomes if outcome.state in ("failed", "late"))

    @property
    def report(self) -> Path:
        """Path of the report in Markdown."""
        return self.folder / REPORT

    def text(self) -> str:
        """One line for the terminal."""
        if not self.outcomes:
            return "no CUDA device on this machine: nothing to check (not a failure)"
        counts = {state: sum(outcome.state == state for outcome in self.outcomes) for state in get_args(State)}
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return f"{self.report}: {summary}"


def run(
    folder: Path,
    *,
    device: str = "cuda",
    small: bool = False,
    only: Sequence[str] = (),
    limit: float = LIMIT_SECONDS,
    progress: Progress = SILENT,
) -> ProofResult:
    """Check and measure the package on a device; report, figures and trace are in `folder` from the first result on.

    Args:
        folder: created if missing; files of an earlier call are overwritten.
        device: cuda, or cpu to test the checks and measurements themselves.
        small: use scenes and networks that a CPU can handle.
        only: names of checks and measurements; all of them if empty.
        limit: time limit of everything together in seconds.
        progress: advanced after each check or measurement.

    Raises:
        OutputError: the folder cannot be written.
        InterruptError: Ctrl-C or SIGTERM; the results so far are in the folder.
    """
    machine = machine_facts(device)
    if device == "cuda" and not torch.cuda.is_available():
        return ProofResult(folder, machine)
    _prepare_folder(folder)
    names = [(name, "check") for name in (*MAPS, *RUNS)] + [(name, "figure") for name in FIGURES]
    selected = [(name, kind) for name, kind in names if not only or name in only]
    result, end_time = ProofResult(folder, machine), time.monotonic() + limit
    progress.start("checks", len(selected), "check")
    for name, kind in selected:
        try:
            outcome = _run_one(folder, name, kind, device, small=small, seconds=end_time - time.monotonic())
        except KeyboardInterrupt as error:
            outcome = Outcome(name, kind, "cut", figures=_figures_so_far(folder, name))  # type: ignore[arg-type]
            _write(ProofResult(folder, machine, (*result.outcomes, outcome)))
            raise InterruptError(f"interrupted in {name}; the results so far are in {folder / REPORT}") from error
        result = ProofResult(folder, machine, (*result.outcomes, outcome))
        _write(result)
        log.info("%s: %s in %.0f s %s", name, outcome.state, outcome.seconds, outcome.error)
        progress.advance()
    progress.close()
    return result


def machine_facts(device: str) -> dict[str, Any]:
    """Facts on which figures depend: GPU, driver, versions, cores, date."""
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "co2s": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": device,
    }
    if device == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gpu_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        facts["driver"] = _driver()
    return facts


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or None  # noqa: S603


def _prepare_folder(folder: Path) -> None:
    """Create the folder, and remove the files of an earlier call."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
    check_writable(folder)
    for path in (folder / REPORT, folder / FIGURES_FILE, folder / TRACE, *folder.glob("*.jsonl")):
        path.unlink(missing_ok=True)
    for leftover in folder.glob(f"{_SCRATCH}*"):  # of a call that was killed
        shutil.rmtree(leftover, ignore_errors=True)


def _write(result: ProofResult) -> None:
    """Replace report and figures file, each atomically."""
    outcomes = [asdict(outcome) for outcome in result.outcomes]
    content = json.dumps({"machine": result.machine, "outcomes": outcomes}, indent=1, default=str)
    write_text(result.folder / FIGURES_FILE, content)
    write_text(result.folder / REPORT, markdown(result.machine, outcomes))


def _run_one(folder: Path, name: str, kind: Any, device: str, *, small: bool, seconds: float) -> Outcome:
    """Run one check or measurement in a process, which is killed after its time limit or after `seconds`."""
    if seconds < _SHORTEST:
        return Outcome(name, kind, "not begun")
    limit, started = min(seconds, CHECK_SECONDS if kind == "check" else FIGURE_SECONDS), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch,
        _process(command_of(name, device, folder, scratch, small=small)) as process,
    ):
        try:
            _, stderr = process.communicate(timeout=limit)
            state: State = "passed" if process.returncode == 0 else "failed"
            state = "skipped" if process.returncode == SKIPPED else state
        except subprocess.TimeoutExpired:
            state, stderr = "late", f"took more than {limit:.0f} s"
    error = "" if state == "passed" else (stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return Outcome(name, kind, state, time.monotonic() - started, _figures_so_far(folder, name), error)


def command_of(name: str, device: str, folder: Path, scratch: str, *, small: bool) -> list[str]:
    """The command line of a check or measurement."""
    size = ["small"] if small else []
    return [sys.executable, "-m", "co2s_cli.jobs.gpu.task", name, device, str(folder), *size, scratch]


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in a process group of its own; at the end all processes of the group are killed."""
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _figures_so_far(folder: Path, name: str) -> dict[str, Any]:
    """The figures that a check or measurement has written so far."""
    path = folder / f"{name}.jsonl"
    figures: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # the last line may be cut short
            figures.update(json.loads(line))
    return figures
