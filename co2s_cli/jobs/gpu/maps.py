"""Checks of `co2s predict` on a device: each makes small maps and returns figures, or raises `NotMetError`."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from co2s_cli.config.predict import PredictConfig
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.inference.engine import STAGES, InferenceEngine, repeatable
from co2s_cli.inference.model import load_model
from co2s_cli.inference.products import LandCover
from co2s_cli.inference.targets import folder_of
from co2s_cli.jobs.gpu.bench import Bench, SkippedError, require, share_differing
from co2s_cli.models import weights

log = logging.getLogger(__name__)

FP32_SHARE = 1e-3
"""Share of pixels that may differ between fp32 maps of two devices, whose values differ only by rounding."""

HALF_SHARE = 0.03
"""Share of pixels that may differ between bf16 or fp16 and fp32: nearly equal probabilities may change order."""

SIGTERM_CODE = 128 + signal.SIGTERM
"""Exit code of a process ended by SIGTERM."""


def fp32(bench: Bench) -> dict[str, Any]:
    """The fp32 map differs from that of the CPU in at most one pixel in a thousand."""
    scene = bench.sample().scene
    on_device = bench.predict(scene, "here", precision="fp32")
    on_cpu = bench.predict(scene, "cpu", precision="fp32", device="cpu")
    share = share_differing(on_device.outputs["class"], on_cpu.outputs["class"])
    require(share <= FP32_SHARE, f"{share:.2%} of the pixels differ from the CPU's map, {FP32_SHARE:.1%} may")
    return {"differing": share}


def bf16(bench: Bench) -> dict[str, Any]:
    """The bf16 map differs from the fp32 map in at most `HALF_SHARE` of the pixels."""
    return _near_fp32(bench, "bf16")


def fp16(bench: Bench) -> dict[str, Any]:
    """The fp16 map differs from the fp32 map in at most `HALF_SHARE` of the pixels."""
    return _near_fp32(bench, "fp16")


def _near_fp32(bench: Bench, precision: str) -> dict[str, Any]:
    scene = bench.sample().scene
    half, full = (bench.predict(scene, name, precision=name).outputs["class"] for name in (precision, "fp32"))
    share = share_differing(half, full)
    require(share <= HALF_SHARE, f"{share:.2%} of the pixels differ from the map in fp32, {HALF_SHARE:.0%} may")
    return {"differing": share}


def same_bytes(bench: Bench) -> dict[str, Any]:
    """Two runs write the same bytes, in each precision."""
    scene = bench.sample().scene
    for precision in ("fp32", "bf16"):
        first, second = (
            bench.predict(scene, f"{precision}-{run}", precision=precision, confidence=bench.folder / f"sure{run}.tif")
            for run in "ab"
        )
        for name in ("class", "confidence"):
            equal = first.outputs[name].read_bytes() == second.outputs[name].read_bytes()
            require(equal, f"two runs in {precision} wrote different bytes into the {name} raster")
    return {}


def batches(bench: Bench) -> dict[str, Any]:
    """`--batch auto` is more than 1 on a GPU, and the map differs from that of batch 1 in at most `FP32_SHARE`."""
    scene = bench.sample().scene
    auto = bench.predict(scene, "auto", precision="fp32")
    single = bench.predict(scene, "single", precision="fp32", batch=1)
    share = share_differing(auto.outputs["class"], single.outputs["class"])
    require(
        share <= FP32_SHARE,
        f"with a batch of {auto.batch}, {share:.2%} of the pixels differ from the map with a batch of 1",
    )
    require(not bench.on_cuda or auto.batch > 1, "--batch auto is 1 on a GPU, for a network of 2 million parameters")
    return {"batch": auto.batch, "differing": share}


def device_mem(bench: Bench) -> dict[str, Any]:
    """With `--device-mem` torch reserves no more than that, and the map is the same as without it."""
    if not bench.on_cuda:
        raise SkippedError("--device-mem is for CUDA devices")
    scene, limit = bench.sample().scene, 2 * 10**9
    unlimited = bench.predict(scene, "free", precision="fp32", batch=4)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    limited = bench.predict(scene, "held", precision="fp32", batch=4, device_mem=limit)
    reserved = torch.cuda.max_memory_reserved(bench.device)
    require(reserved <= limit, f"{reserved / 1e9:.2f} GB were reserved, {limit / 1e9:.0f} were allowed")
    share = share_differing(unlimited.outputs["class"], limited.outputs["class"])
    require(share == 0, f"{share:.2%} of the pixels differ from the map without the limit, none may")
    return {"reserved_gb": reserved / 1e9}


def staging(bench: Bench) -> dict[str, Any]:
    """With more batches than staging buffers no buffer is overwritten while it is copied to the device."""
    engine, images = _engine(bench, batch=4), _images(bench, count=4 * (2 * STAGES + 1))
    with repeatable():
        queued = [engine.run(list(enumerate(images[start : start + 4]))) for start in range(0, len(images), 4)]
        for index, values in enumerate(queued):
            run_alone = engine.run(list(enumerate(images[4 * index : 4 * index + 4])))
            equal = bool(torch.equal(values, run_alone))
            require(equal, f"batch {index + 1} of {len(queued)} has other values when it is run alone")
    return {"batches": len(queued)}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """A batch that does not fit into the device's memory is halved until it does, and its values stay the same."""
    images = _images(bench, count=16)
    notes: list[str] = []
    with repeatable():
        unlimited = _engine(bench, batch=16)
        expected = unlimited.run(list(enumerate(images))).cpu()
        limited = _engine(bench, batch=16, note=notes.append, members=None if bench.on_cuda else _at_most(4, bench))
        _limit_memory(bench, images)
        try:
            values = limited.run(list(enumerate(images))).cpu()
        finally:
            if bench.on_cuda:
                torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
    require(
        limited.forward_size < 16 and bool(notes),
        "the memory left should hold no batch of 16 windows, yet none was halved",
    )
    apart = float((values - expected).abs().max())
    require(apart < 1e-3, f"values differ by {apart:.1e} from those with enough memory")
    return {"windows_at_a_time": limited.forward_size, "notes": notes, "apart": apart}


def _limit_memory(bench: Bench, images: Sequence[Any]) -> None:
    """Limit torch on a CUDA device to the mean of what a batch of 16 windows and one of 2 windows take."""
    if not bench.on_cuda:
        return
    peaks = []
    for count in (2, 16):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
        _engine(bench, batch=count).run(list(enumerate(images[:count])))
        torch.cuda.synchronize(bench.device)
        peaks.append(torch.cuda.max_memory_reserved(bench.device))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction((peaks[0] + peaks[1]) / 2 / total, bench.device)


def _at_most(windows: int, bench: Bench) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The model, as on a device whose memory holds only so many windows at a time."""
    members = _members(bench)

    def limited(images: Tensor) -> Mapping[str, Tensor]:
        if len(images) > windows:
            raise torch.OutOfMemoryError(f"{len(images)} windows")
        return members(images)

    return limited


def compiled(bench: Bench) -> dict[str, Any]:
    """With `--compile` at most `FP32_SHARE` of the pixels differ."""
    scene = bench.sample().scene
    plain = bench.predict(scene, "plain", precision="fp32")
    compiled_map = bench.predict(scene, "compiled", precision="fp32", compile=True)
    share = share_differing(plain.outputs["class"], compiled_map.outputs["class"])
    require(share <= FP32_SHARE, f"{share:.2%} of the pixels differ from the map without --compile")
    return {"differing": share, "seconds": compiled_map.seconds}


def sigterm(bench: Bench) -> dict[str, Any]:
    """SIGTERM ends a map with exit code 143; the same command continues it to the same bytes as one whole run."""
    scene = bench.sample(side=2 * bench.side).scene
    # eight views of each window, so that there is time for the signal
    flags = ["--device", str(bench.device), "--tile", str(bench.tile), "--tta", "d4", "--precision", "fp32"]
    resumed, whole = bench.folder / "cut.tif", bench.folder / "whole.tif"
    code = terminated_when([*_predict(scene, resumed), *flags], lambda: any(folder_of(resumed).glob("*.class.tif")))
    require(code == SIGTERM_CODE, f"exit code {code}, {SIGTERM_CODE} is wanted (0: the map was finished before)")
    for out in (resumed, whole):
        subprocess.run([*_predict(scene, out), *flags], check=True, capture_output=True)  # noqa: S603
    equal = resumed.read_bytes() == whole.read_bytes()
    require(equal, "the continued map has other bytes than one made without interruption")
    return {}


def _predict(scene: Path, out: Path) -> list[str]:
    model = str(weights.demo_path())
    return [sys.executable, "-m", "co2s_cli", "-q", "predict", str(scene), "--out", str(out), "--model", model]


def terminated_when(command: list[str], ready: Callable[[], bool]) -> int:
    """Exit code of a process that is sent SIGTERM as soon as `ready()` is true, unless it has ended before."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None and not ready():
            time.sleep(0.02)
        process.terminate()
        return process.wait()


def mps(bench: Bench) -> dict[str, Any]:
    """On Apple's GPU the fp32 map differs from that of the CPU in at most one pixel in a thousand."""
    if not torch.backends.mps.is_available():
        raise SkippedError("no MPS device")
    return fp32(Bench(torch.device("mps"), bench.folder, bench.side, bench.tile))


def _members(bench: Bench) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The students of the demonstration model in fp32 on the bench's device."""
    settings = PredictConfig.model_validate({"scenes": ["unused"], "out": "unused", "tile": bench.tile})
    return load_model(weights.demo_path(), settings, bench.device, "fp32").members


def _engine(
    bench: Bench, *, batch: int, members: Any = None, note: Callable[[str], None] = log.warning
) -> InferenceEngine:
    """An engine with the demonstration model in fp32, for windows of three bands in uint8."""
    return InferenceEngine(
        members or _members(bench),
        LandCover(classes=len(weights.read_manifest(weights.demo_path()).classes), fusion="mean"),
        scaling=Scaling(low=(0.0,) * 3, high=(255.0,) * 3, clamp=True),
        device=bench.device,
        precision="fp32",
        batch=batch,
        note=note,
    )


def _images(bench: Bench, *, count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """`count` different windows of noise, each (3, tile, tile)."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (3, bench.tile, bench.tile), dtype=np.uint8) for _ in range(count)]


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "predict fp32": fp32,
    "predict bf16": bf16,
    "predict fp16": fp16,
    "same bytes": same_bytes,
    "batch auto": batches,
    "staging": staging,
    "out of memory": out_of_memory,
    "device memory": device_mem,
    "predict compiled": compiled,
    "predict SIGTERM": sigterm,
    "MPS": mps,
}
"""All checks by name, in the order in which they run."""
