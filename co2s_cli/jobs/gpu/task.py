"""Main program of one check or measurement: `python -m co2s_cli.jobs.gpu.task NAME DEVICE FOLDER [small] SCRATCH`."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from co2s_cli import log
from co2s_cli.jobs.gpu.bench import Bench, NotMetError, SkippedError, append_line
from co2s_cli.jobs.gpu.figures import FIGURES
from co2s_cli.jobs.gpu.maps import CHECKS as MAPS
from co2s_cli.jobs.gpu.runs import CHECKS as RUNS

SKIPPED = 5
"""Exit code of a check that does not apply to the device."""

TRACE = "trace.json"


def bench_of(name: str, device: str, scratch: Path, *, small: bool) -> Bench:
    """The bench of a check (made-up scenes of 1,024² pixels) or of a measurement (20,000² pixels)."""
    if small:
        return Bench(torch.device(device), scratch, side=128, tile=64, crop=64)
    if name in FIGURES:
        return Bench(torch.device(device), scratch, side=20_000, tile=512, crop=512, batch=8, networks="base")
    return Bench(torch.device(device), scratch)


def perform(name: str, bench: Bench, folder: Path) -> None:
    """Run a check or a measurement; each figure is added to `NAME.jsonl` in `folder` as soon as it is known."""

    def record(figure: str, values: dict[str, Any]) -> None:
        append_line(folder / f"{name}.jsonl", {figure: values})

    checks = MAPS | RUNS
    if name in checks:
        record(name, checks[name](bench))
    else:
        FIGURES[name](bench, record)
    if (bench.folder / TRACE).exists():
        shutil.copyfile(bench.folder / TRACE, folder / TRACE)


def main(arguments: list[str]) -> int:
    """Run the check or measurement that the command line names; returns the exit code."""
    name, device, folder, *size, scratch = arguments
    log.setup(-1)
    warnings.simplefilter("ignore")  # warnings of libraries: the last line on stderr must be the error
    try:
        perform(name, bench_of(name, device, Path(scratch), small=bool(size)), Path(folder))
    except (SkippedError, NotMetError) as error:
        sys.stderr.write(f"{error}\n")
        return SKIPPED if isinstance(error, SkippedError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
