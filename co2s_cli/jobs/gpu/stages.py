"""Where the time of a map goes: host seconds by stage, kernels by name, how busy the GPU is."""

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
"""Functions by their stage. On a GPU `model` is the time to launch its kernels and to wait for room."""

_TOP = 12
"""Kernels that a summary names."""


@contextmanager
def host_stages() -> Iterator[dict[str, float]]:
    """Seconds of each stage, all threads together, of what runs in the block; filled in at its end."""
    total: dict[str, float] = defaultdict(float)
    adding = threading.Lock()

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                with adding:
                    total[stage] += time.perf_counter() - began

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
    """A trace of what runs in the block, written to `path`; seconds of the longest kernels, filled in at its end."""
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
    """How busy the first GPU was during the block, 0 to 1, by nvidia-smi; None where there is none."""
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
    shares = [float(line) / 100 for line in text.splitlines() if line.strip().isdigit()]
    return mean(shares) if shares else None
