"""Profile of a map: host seconds by stage, seconds by kernel, utilisation of the GPU."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from co2s_cli.geo.read.reader import RasterReader, SceneReader
from co2s_cli.inference import mapping
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.inference.products import LandCover
from co2s_cli.inference.stitch import BlendWeights, RowRing
from co2s_cli.inference.store import Parts

STAGES: dict[str, tuple[Any, str]] = {
    "read": (SceneReader, "read"),
    "read, of it decoding": (RasterReader, "read"),
    "model": (InferenceEngine, "run"),
    "blend, weights": (BlendWeights, "apply"),
    "blend, sums": (RowRing, "add"),
    "decide": (LandCover, "decide"),
    "encode": (Parts, "write"),
    "write": (mapping, "write_rasters"),
}
"""Stage → owner and name of the timed function. On a GPU `model` is the time to launch kernels and wait for memory."""

_TOP = 12
"""Number of kernels in a summary, those that take longest."""


@contextmanager
def host_stages() -> Iterator[dict[str, float]]:
    """Seconds by stage, summed over all threads, of what runs in the block; the dictionary is filled at its end."""
    total: dict[str, float] = defaultdict(float)
    total_lock = threading.Lock()

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                with total_lock:
                    total[stage] += time.perf_counter() - started

        return call

    originals = {stage: getattr(owner, name) for stage, (owner, name) in STAGES.items()}
    result: dict[str, float] = {}
    try:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, timed(stage, originals[stage]))
        yield result
    finally:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, originals[stage])
        result.update({stage: total[stage] for stage in STAGES})


@contextmanager
def kernel_trace(path: Path) -> Iterator[dict[str, float]]:
    """Seconds of the longest kernels in the block, filled at its end; a trace of the block is written to `path`."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    result: dict[str, float] = {}
    with torch.profiler.profile(activities=activities) as profile:
        yield result
    profile.export_chrome_trace(str(path))
    on_device = torch.cuda.is_available()
    times = {
        event.key: (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
        for event in profile.key_averages()
    }
    result.update(dict(sorted(times.items(), key=lambda item: -item[1])[:_TOP]))


@contextmanager
def utilisation() -> Iterator[Callable[[], float | None]]:
    """Mean utilisation of the first GPU during the block, 0 to 1, by nvidia-smi, for after its end; None without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield lambda: None
        return
    query = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=500"]
    text: list[str] = []
    with subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
        try:
            yield lambda: _mean(text[0]) if text else None
        finally:
            process.terminate()
            text.append(process.communicate()[0])


def _mean(text: str) -> float | None:
    """Mean of the percentages in the lines of `text`, as a fraction; None if there are none."""
    shares = [float(line) / 100 for line in text.splitlines() if line.strip().isdigit()]
    return mean(shares) if shares else None
