"""The real command line in forked children that begin with everything imported: quick, limited, and killable.

A fork server imports torch and the jobs once; each case is a child of it with its own streams, folder, address
space and time. `co2s_cli.__main__.main` runs there as in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PRELOADED = [
    "co2s_cli.__main__",
    "co2s_cli.cli",
    "co2s_cli.jobs.early",
    *(f"co2s_cli.jobs.{name}" for name in ("distill", "evaluate", "import_", "info", "predict")),
    *(f"co2s_cli.jobs.{name}" for name in ("pseudo_label", "sample", "train", "vectorize")),
    "co2s_cli.models.ensemble",
    "geopandas",
    "pyogrio",
    "timm",
    "open_clip",
    "matplotlib.pyplot",
    "support.forked",
]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None
    """None where it was killed at its time limit; negative for a signal."""
    stdout: str
    stderr: str
    seconds: float
    """Of processor time."""
    grown: int
    """Bytes of resident memory that it took at most, beyond what its imports took; 0 where it was killed."""


def run(
    arguments: Sequence[object],
    folder: Path,
    *,
    memory: int = 4_000_000_000,
    seconds: int = 60,
    watch: Callable[[int], None] | None = None,
) -> Outcome:
    """Run `co2s` with `arguments` in `folder`.

    Args:
        arguments: As on a command line.
        folder: Working folder of the child.
        memory: Bytes of address space beyond what the imports take.
        seconds: Processor time after which the child is killed; ten times as much of wall time, for one that waits.
        watch: Called with the number of the process once it runs; a test kills it there.
    """
    with tempfile.TemporaryDirectory() as streams:
        texts = [str(argument) for argument in arguments]
        child = _CONTEXT.Process(target=_child, args=(texts, str(folder), streams, memory, seconds))
        child.start()
        if watch is not None:
            watch(child.pid or 0)
        child.join(10 * seconds)
        if child.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
            code = None
        else:
            code = child.exitcode
        out, err, facts = (Path(streams) / name for name in ("stdout", "stderr", "facts"))
        told = json.loads(facts.read_text()) if facts.exists() else {"seconds": 0.0, "grown": 0}
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
        return Outcome(code, texts[0], texts[1], **told)


def _child(arguments: list[str], folder: str, streams: str, memory: int, seconds: int) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{streams}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    limit = status("VmSize") + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = status("VmRSS")
    sys.argv = ["co2s", *arguments]
    from co2s_cli.__main__ import main

    try:
        main()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        told = {"seconds": used.ru_utime + used.ru_stime, "grown": max(0, used.ru_maxrss * 1024 - before)}
        Path(streams, "facts").write_text(json.dumps(told))


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def call(function: Callable[..., None], *arguments: object) -> None:
    """Run a function of a test module in a child; it must succeed."""
    child = _CONTEXT.Process(target=function, args=arguments)
    child.start()
    child.join()
    assert child.exitcode == 0, f"{function.__name__} ended with {child.exitcode}"
