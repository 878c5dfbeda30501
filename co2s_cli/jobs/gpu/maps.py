"""Checks of `co2s predict` on a device: each makes small maps and returns figures, or says what is not right."""

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
"""Share of pixels that may differ between maps of two devices in fp32: values that are equal but for rounding."""

HALF_SHARE = 0.03
"""The same for bf16 and fp16, where the surest of two near classes may turn over."""

SIGTERM_CODE = 128 + signal.SIGTERM


def fp32(bench: Bench) -> dict[str, Any]:
    """The map in fp32 is that of the CPU but for one pixel in a thousand."""
    scene = bench.sample().scene
    here = bench.predict(scene, "here", precision="fp32")
    cpu = bench.predict(scene, "cpu", precision="fp32", device="cpu")
    share = share_differing(here.outputs["class"], cpu.outputs["class"])
    require(share <= FP32_SHARE, f"{share:.2%} of the pixels differ from the CPU's, {FP32_SHARE:.1%} may")
    return {"differing": share}


def bf16(bench: Bench) -> dict[str, Any]:
    """The map in bf16 is near that in fp32."""
    return _near_fp32(bench, "bf16")


def fp16(bench: Bench) -> dict[str, Any]:
    """The map in fp16 is near that in fp32."""
    return _near_fp32(bench, "fp16")


def _near_fp32(bench: Bench, precision: str) -> dict[str, Any]:
    scene = bench.sample().scene
    half, full = (bench.predict(scene, name, precision=name).outputs["class"] for name in (precision, "fp32"))
    share = share_differing(half, full)
    require(share <= HALF_SHARE, f"{share:.2%} of the pixels differ from those in fp32, {HALF_SHARE:.0%} may")
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
            same = first.outputs[name].read_bytes() == second.outputs[name].read_bytes()
            require(same, f"two runs in {precision} wrote different bytes into the {name} raster")
    return {}


def batches(bench: Bench) -> dict[str, Any]:
    """`--batch auto` suits the device, and the map hardly depends on the batch."""
    scene = bench.sample().scene
    auto = bench.predict(scene, "auto", precision="fp32")
    single = bench.predict(scene, "single", precision="fp32", batch=1)
    share = share_differing(auto.outputs["class"], single.outputs["class"])
    require(share <= FP32_SHARE, f"with a batch of {auto.batch} {share:.2%} of the pixels differ from those with 1")
    require(not bench.on_cuda or auto.batch > 1, "--batch auto is 1 on a GPU, for a network of 2 million parameters")
    return {"batch": auto.batch, "differing": share}


def device_mem(bench: Bench) -> dict[str, Any]:
    """`--device-mem` is kept: torch has reserved no more than it allows, and the map is the same."""
    if not bench.on_cuda:
        raise SkippedError("--device-mem is for CUDA devices")
    scene, limit = bench.sample().scene, 2 * 10**9
    free = bench.predict(scene, "free", precision="fp32", batch=4)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    held = bench.predict(scene, "held", precision="fp32", batch=4, device_mem=limit)
    reserved = torch.cuda.max_memory_reserved(bench.device)
    require(reserved <= limit, f"{reserved / 1e9:.2f} GB were reserved, {limit / 1e9:.0f} were allowed")
    require(share_differing(free.outputs["class"], held.outputs["class"]) == 0, "another map than without the limit")
    return {"reserved_gb": reserved / 1e9}


def staging(bench: Bench) -> dict[str, Any]:
    """More batches than there are staging buffers arrive whole: none is overwritten while it is copied."""
    engine, images = _engine(bench, batch=4), _images(bench, count=4 * (2 * STAGES + 1))
    with repeatable():
        queued = [engine.run(list(enumerate(images[start : start + 4]))) for start in range(0, len(images), 4)]
        for index, values in enumerate(queued):
            again = engine.run(list(enumerate(images[4 * index : 4 * index + 4])))
            same = bool(torch.equal(values, again))
            require(same, f"batch {index + 1} of {len(queued)} has other values when it is run alone")
    return {"batches": len(queued)}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """Where a batch does not fit into the device's memory, it is halved until it does; values stay."""
    images = _images(bench, count=16)
    told: list[str] = []
    with repeatable():
        roomy = _engine(bench, batch=16)
        wanted = roomy.run(list(enumerate(images))).cpu()
        tight = _engine(bench, batch=16, note=told.append, members=None if bench.on_cuda else _at_most(4, bench))
        _leave_room(bench, images)
        try:
            values = tight.run(list(enumerate(images))).cpu()
        finally:
            if bench.on_cuda:
                torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
    require(tight.step < 16 and bool(told), "the memory left should hold no batch of 16 windows, yet none was halved")
    apart = float((values - wanted).abs().max())
    require(apart < 1e-3, f"values differ by {apart:.1e} from those with enough memory")
    return {"windows_at_a_time": tight.step, "notes": told, "apart": apart}


def _leave_room(bench: Bench, images: Sequence[Any]) -> None:
    """Limit torch on a CUDA device to less memory than a whole batch takes and more than two windows take."""
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
    """The model on a device that holds so many windows at a time."""
    members = _members(bench)

    def limited(images: Tensor) -> Mapping[str, Tensor]:
        if len(images) > windows:
            raise torch.OutOfMemoryError(f"{len(images)} windows")
        return members(images)

    return limited


def compiled(bench: Bench) -> dict[str, Any]:
    """`--compile` gives the same map."""
    scene = bench.sample().scene
    plain = bench.predict(scene, "plain", precision="fp32")
    quick = bench.predict(scene, "compiled", precision="fp32", compile=True)
    share = share_differing(plain.outputs["class"], quick.outputs["class"])
    require(share <= FP32_SHARE, f"{share:.2%} of the pixels differ from those without --compile")
    return {"differing": share, "seconds": quick.seconds}


def sigterm(bench: Bench) -> dict[str, Any]:
    """SIGTERM ends a map with code 143, and the same command goes on: the bytes are those of one run."""
    scene = bench.sample(side=2 * bench.side).scene
    # eight views of each window, so that there is time to be interrupted
    flags = ["--device", str(bench.device), "--tile", str(bench.tile), "--tta", "d4", "--precision", "fp32"]
    cut, whole = bench.folder / "cut.tif", bench.folder / "whole.tif"
    code = ended_when([*_predict(scene, cut), *flags], lambda: any(folder_of(cut).glob("*.class.tif")))
    require(code == SIGTERM_CODE, f"the process ended with {code}, {SIGTERM_CODE} is wanted (0: it was over before)")
    for out in (cut, whole):
        subprocess.run([*_predict(scene, out), *flags], check=True, capture_output=True)  # noqa: S603
    require(
        cut.read_bytes() == whole.read_bytes(), "the map that was gone on with has other bytes than one made at once"
    )
    return {}


def _predict(scene: Path, out: Path) -> list[str]:
    model = str(weights.demo_path())
    return [sys.executable, "-m", "co2s_cli", "-q", "predict", str(scene), "--out", str(out), "--model", model]


def ended_when(command: list[str], ready: Callable[[], bool]) -> int:
    """Exit code of a process that is sent SIGTERM as soon as something is there, or that ends before."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None and not ready():
            time.sleep(0.02)
        process.terminate()
        return process.wait()


def mps(bench: Bench) -> dict[str, Any]:
    """On Apple's GPU the map is that of the CPU."""
    if not torch.backends.mps.is_available():
        raise SkippedError("no MPS device")
    return fp32(Bench(torch.device("mps"), bench.folder, bench.side, bench.tile))


def _members(bench: Bench) -> Callable[[Tensor], Mapping[str, Tensor]]:
    settings = PredictConfig.model_validate({"scenes": ["unused"], "out": "unused", "tile": bench.tile})
    return load_model(weights.demo_path(), settings, bench.device, "fp32").members


def _engine(
    bench: Bench, *, batch: int, members: Any = None, note: Callable[[str], None] = log.warning
) -> InferenceEngine:
    """The demonstration model in fp32 for windows of three bytes a pixel."""
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
    """Windows of noise, each another one."""
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
"""By name, in the order in which they are made."""
