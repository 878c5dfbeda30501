"""Checks of `co2s train` and `co2s distill` on a device: runs of a few steps with very small networks."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from co2s_cli.config import distill as distill_config
from co2s_cli.config import train as train_config
from co2s_cli.jobs import distill as distill_job
from co2s_cli.jobs import train as train_job
from co2s_cli.jobs.gpu.bench import Bench, SkippedError, require
from co2s_cli.jobs.gpu.maps import SIGTERM_CODE, terminated_when
from co2s_cli.jobs.gpu.stepping import Stepping
from co2s_cli.models import weights
from co2s_cli.training.names import STATE
from co2s_cli.training.records import read
from co2s_cli.training.run import RunResult
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.state import State

STEPS = 4
"""Steps of each run."""

MAX_RELATIVE_DIFFERENCE = 5e-2
"""Accepted relative difference of the losses of two ways to compute the same step: kernels round differently."""


def train(bench: Bench, name: str, *extra: str, **flags: Any) -> RunResult:
    """Train the tiny pair for `STEPS` steps in the folder `name`; `extra` are settings as key=value."""
    values = {"data": str(bench.sample().data), "out": bench.folder / name, **_flags(bench), **flags}
    return train_job.run(train_config.settings_of(None, values, [*_settings(bench), *extra]))


def _flags(bench: Bench) -> dict[str, Any]:
    return {"preset": "tiny", "steps": STEPS, "device": str(bench.device), "overwrite": True}


def _settings(bench: Bench) -> list[str]:
    values = {"crop": bench.crop, "batch": 2, "workers": 1, "log_every": 1, "val_every": STEPS, "precision": "fp32"}
    # a learning rate so low that small differences do not grow
    return [f"{name}={value}" for name, value in {**values, "lr": 1e-5, "warmup": 0}.items()]


def losses(run: RunResult) -> list[float]:
    """The loss of each step of a run."""
    return [line["loss"] for line in read(run.out)[0]]


def _require_near(first: list[float], second: list[float], what: str) -> float:
    """Require nearly equal losses of two runs; returns their largest relative difference."""
    apart = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(first, second, strict=True))
    require(
        apart <= MAX_RELATIVE_DIFFERENCE,
        f"{what}: losses differ by {apart:.1%}, {MAX_RELATIVE_DIFFERENCE:.0%} is allowed",
    )
    return apart


def precisions(bench: Bench) -> dict[str, Any]:
    """Losses in bf16 and fp16 are near those in fp32; on a GPU the gradients in fp16 are scaled."""
    full = losses(train(bench, "fp32"))
    runs = {name: train(bench, name, f"precision={name}") for name in ("bf16", "fp16")}
    apart = {name: _require_near(losses(run), full, name) for name, run in runs.items()}
    scaler = State.load(runs["fp16"].out).scaler
    require(bool(scaler) == bench.on_cuda, f"the state of the gradient scaler of the run in fp16 is {scaler}")
    return {"differing": apart, "scale": scaler.get("scale")}


def resume(bench: Bench) -> dict[str, Any]:
    """Two steps, then two more after a resume, give the weights of four steps; on a CPU bit for bit."""
    whole = train(bench, "whole")
    half = train(bench, "half", stop_after=STEPS // 2)
    resumed = train_job.run(train_config.resumed(half.out, {"resume": True, "out": half.out}, []))
    pairs = zip(weights.load(whole.model).parameters(), weights.load(resumed.model).parameters(), strict=True)
    apart = max(float((a - b).detach().abs().max()) for a, b in pairs)
    limit = 1e-4 if bench.on_cuda else 0.0  # GPU kernels may add in any order
    require(apart <= limit, f"weights differ by {apart:.1e} after a resume, {limit:.0e} is allowed")
    return {"apart": apart}


def checkpointing(bench: Bench) -> dict[str, Any]:
    """With `--checkpointing` the losses are nearly the same, and a GPU needs less memory."""
    runs, peaks = [], []
    for name, wanted in (("kept", False), ("recomputed", True)):
        if bench.on_cuda:
            torch.cuda.reset_peak_memory_stats(bench.device)
        runs.append(losses(train(bench, name, checkpointing=wanted)))
        peaks.append(torch.cuda.max_memory_allocated(bench.device) / 1e9 if bench.on_cuda else 0.0)
    apart = _require_near(runs[0], runs[1], "--checkpointing")
    require(
        not bench.on_cuda or peaks[1] < peaks[0],
        f"peak memory is {peaks[1]:.3f} GB with --checkpointing, {peaks[0]:.3f} GB without",
    )
    return {"differing": apart, "peak_gb": peaks}


def accumulation(bench: Bench) -> dict[str, Any]:
    """A run that accumulates two batches per step reaches its last step with finite losses."""
    run = train(bench, "accumulated", "accumulate=2")
    require(run.step == STEPS and all(map(math.isfinite, losses(run))), f"step {run.step}, losses {losses(run)}")
    return {"losses": losses(run)}


def compiled(bench: Bench) -> dict[str, Any]:
    """With `--compile` the losses are nearly the same."""
    compiled_run, plain = train(bench, "compiled", compile=True), train(bench, "plain")
    return {"differing": _require_near(losses(compiled_run), losses(plain), "--compile")}


def distill(bench: Bench) -> dict[str, Any]:
    """A student learns from a foundation model and a trained pair, with finite losses."""
    values = {
        "data": str(bench.sample().data),
        "out": bench.folder / "distilled",
        **_flags(bench),
        "teacher": ["tiny-dino:none", str(weights.demo_path())],
    }
    run = distill_job.run(distill_config.settings_of(None, values, _settings(bench)))
    require(run.step == STEPS and all(map(math.isfinite, losses(run))), f"step {run.step}, losses {losses(run)}")
    return {"losses": losses(run)}


def one_rank(bench: Bench) -> dict[str, Any]:
    """A step by DDP over NCCL (gloo on a CPU) with one process has the loss of a step without DDP."""
    if bench.device.type == "mps":
        raise SkippedError("torch.distributed has no backend for MPS")
    expected = Stepping.of(bench, batch=2).step()
    with _one_rank_group(bench):
        by_ddp = Stepping.of(bench, batch=2, wrapped=_ddp)
        # a runtime of two processes, since one of a single process does not sum
        summed = Runtime(bench.device, 0, 2).summed(torch.ones(3, device=bench.device))
        apart = abs(by_ddp.step() - expected)
    require(summed.tolist() == [1.0] * 3, f"a sum over one process is {summed.tolist()}, ones are wanted")
    require(apart < 1e-4, f"the loss differs by {apart:.1e} from that without DDP, less than 1e-4 is wanted")
    return {"apart": apart}


def _ddp(module: torch.nn.Module) -> torch.nn.Module:
    return DistributedDataParallel(module, find_unused_parameters=True)


@contextmanager
def _one_rank_group(bench: Bench) -> Iterator[None]:
    backend = "nccl" if bench.on_cuda else "gloo"
    dist.init_process_group(backend, init_method=f"file://{bench.folder / 'store'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def sigterm(bench: Bench) -> dict[str, Any]:
    """SIGTERM ends a run with exit code 143, and `--resume` continues it from its last complete state."""
    data, out = bench.sample().data, bench.folder / "ended"
    settings = [part for text in [*_settings(bench), "val_every=1"] for part in ("--set", text)]
    start = ["train", str(data), "--preset", "tiny", "--steps", "200", "--device", str(bench.device), *settings]
    code = terminated_when(_co2s(out, *start), (out / STATE).exists)
    require(code == SIGTERM_CODE, f"exit code {code}, {SIGTERM_CODE} is wanted")
    step_before = State.load(out).step
    subprocess.run(_co2s(out, "train", "--resume", "--stop-after", "1"), check=True, capture_output=True)  # noqa: S603
    step_after = State.load(out).step
    require(step_after == step_before + 1, f"one step after {step_before} the state is that of step {step_after}")
    return {"step": step_before, "signal": signal.SIGTERM.name}


def _co2s(out: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "co2s_cli", "-q", *arguments, "--out", str(out)]


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "train bf16 and fp16": precisions,
    "train resume": resume,
    "train checkpointing": checkpointing,
    "train accumulation": accumulation,
    "distill": distill,
    "one rank": one_rank,
    "train SIGTERM": sigterm,
    "train compiled": compiled,
}
"""All checks by name, in the order in which they run."""
