"""Measurements: maps against the model alone, against reading and writing, against MONAI; training and its loader."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from co2s_cli.config import train as train_config
from co2s_cli.config.predict import PredictConfig
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.read.reader import band_reader
from co2s_cli.geo.write.raster import TILE, image
from co2s_cli.inference.engine import InferenceEngine, one_thread, repeatable
from co2s_cli.inference.mapping import MapContext, MapResult, prepare, settle
from co2s_cli.inference.memory import cores
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import product_of
from co2s_cli.inference.targets import targets_of
from co2s_cli.jobs import train as train_job
from co2s_cli.jobs.gpu.bench import BANDS, Bench, SkippedError, square_grid
from co2s_cli.jobs.gpu.stages import host_stages, kernel_trace, utilisation
from co2s_cli.models import weights
from co2s_cli.tiling import Window
from co2s_cli.training.methods import METHODS
from co2s_cli.training.names import TIMING
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import loader_of

Tell = Callable[[str, dict[str, Any]], None]
"""Writes a figure down as soon as it is known: its name and its values."""

KINDS = (("uint8", 3), ("uint16", 4))
"""Sample type and bands of the scenes."""


def pair(bench: Bench, tell: Tell) -> None:
    """Maps by the pair of transformers, end to end ÷ the model alone over as many windows in the same batches."""
    for dtype, bands in KINDS:
        scene, model = bench.repeated(dtype=dtype, bands=bands), bench.model("pair", bands=bands, dtype=dtype)
        _warm_up(bench, model, dtype, bands)
        with utilisation() as busy:
            made = bench.predict(scene, "map", model=model, precision="bf16")
        seconds = _model_alone(bench, scene, model)
        ratio = {"model_alone_seconds": seconds, "model_share": seconds / made.seconds}
        tell(f"pair {dtype} {bands} bands", {**_speed(made), **ratio, "utilisation": busy()})


def _warm_up(bench: Bench, model: Path, dtype: str, bands: int) -> None:
    """Load libraries and kernels, which the first map of a process waits for."""
    small = replace(bench, side=min(bench.side, 4 * bench.tile))
    bench.predict(small.repeated(dtype=dtype, bands=bands), "warm", model=model, precision="bf16")


def _speed(made: MapResult) -> dict[str, Any]:
    return {
        "megapixels_per_second": made.megapixels_per_second,
        "seconds": made.seconds,
        "waited_share": made.waited,
        "batch": made.batch,
        "windows": made.windows,
    }


def _settled(bench: Bench, scene: Path, model: Path) -> tuple[PreparedScene, InferenceEngine]:
    """The scene and the engine as the command prepares them."""
    values = {"scenes": [str(scene)], "out": bench.folder / "unused.tif", "model": model, "tile": bench.tile}
    settings = PredictConfig.model_validate({**values, "device": str(bench.device), "precision": "bf16"})
    manifest = weights.read_manifest(model)
    context = MapContext.of(settings, ModelFile(model, manifest), product_of(settings, manifest))
    (target,) = targets_of(settings.scenes, settings.out, settings.extra_outputs())
    prepared = prepare(context, target)
    return prepared, settle(context, prepared, None)[0]


def _model_alone(bench: Bench, scene: Path, model: Path) -> float:
    """Seconds in which every window of a scene goes once through the model, in the command's batches."""
    prepared, engine = _settled(bench, scene, model)
    with repeatable():
        return _forwards(engine, prepared, -(-len(prepared.lattice.plan) // engine.batch))


def _forwards(engine: InferenceEngine, scene: PreparedScene, count: int) -> float:
    """Seconds of `count` batches, after one that is not counted; on a CPU a thread for each core, as in the command."""
    with scene.reader() as reader:
        pixels = reader.read(scene.lattice.plan.window(0, 0)).pixels
    batch = [(slot, pixels) for slot in range(engine.batch)]
    threads = cores(1) if engine.device.type == "cpu" else 1
    with ThreadPoolExecutor(threads, initializer=one_thread) as pool:
        list(pool.map(lambda _: engine.run(batch), range(threads)))
        _synchronize(engine.device)
        began = time.perf_counter()
        for _ in pool.map(lambda _: engine.run(batch)[0, 0, 0, 0], range(count)):
            pass
        _synchronize(engine.device)
        return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stages(bench: Bench, tell: Tell) -> None:
    """Where the time of a map goes: seconds of each stage on the host, of each kernel on the device (trace.json)."""
    scene, model = bench.repeated(), bench.model("pair")
    _warm_up(bench, model, *KINDS[0])
    with host_stages() as seconds:
        made = bench.predict(scene, "staged", model=model, precision="bf16")
    tell("stages of the pair, host seconds of all threads", {**_speed(made), **seconds})
    small = replace(bench, side=min(bench.side, 8 * bench.tile)).repeated()
    with kernel_trace(bench.folder / "trace.json") as kernels:
        bench.predict(small, "traced", model=model, precision="bf16")
    tell("kernels of the pair, seconds", kernels)


def small_networks(bench: Bench, tell: Tell) -> None:
    """Maps by small networks, where reading and writing dominate, against reading and writing the scene alone."""
    for dtype, bands in KINDS:
        scene = bench.repeated(dtype=dtype, bands=bands)
        copied = _copy(bench, scene, bands, dtype)
        rate = bench.side**2 / 1e6 / copied
        tell(f"reading and writing {dtype} {bands} bands", {"seconds": copied, "megapixels_per_second": rate})
        for name in ("local", "compact"):
            model = bench.model(name, bands=bands, dtype=dtype)
            _warm_up(bench, model, dtype, bands)
            with utilisation() as busy:
                made = bench.predict(scene, name, model=model, precision="bf16")
            facts = {**_speed(made), "copy_share": copied / made.seconds, "utilisation": busy()}
            tell(f"{name} {dtype} {bands} bands", facts)


def _copy(bench: Bench, scene: Path, bands: int, dtype: str) -> float:
    """Seconds to read a scene with as many threads as there are cores and to write it again, compressed by as many."""

    def rows(row: int) -> np.ndarray[Any, Any]:
        window = Window(row, 0, min(TILE, bench.side - row), bench.side)
        with band_reader(str(scene)) as reader:
            return np.stack([reader.read(window, band=band) for band in range(1, bands + 1)])

    began, grid = time.perf_counter(), square_grid(bench.side)
    with (
        ThreadPoolExecutor(cores(1)) as pool,
        image(bench.folder / "copy.tif", grid=grid, bands=BANDS[:bands], dtype=dtype, nodata=0, tags={}) as writer,
    ):
        for index, strip in enumerate(pool.map(rows, range(0, bench.side, TILE))):
            writer.write(index * TILE, 0, strip)
    return time.perf_counter() - began


def monai(bench: Bench, tell: Tell) -> None:
    """MONAI's sliding window with reading and writing around it: same scene, weights, windows, overlap, precision."""
    try:
        inferers: Any = importlib.import_module("monai.inferers")
    except ImportError as error:
        raise SkippedError("MONAI is not installed") from error
    smaller = replace(bench, side=min(bench.side, 8192))  # it holds the whole scene's probabilities in memory
    scene, model = smaller.repeated(), bench.model("pair")
    _warm_up(bench, model, *KINDS[0])
    ours = smaller.predict(scene, "ours", model=model, precision="bf16")
    network = weights.load(model, bench.device).eval()
    began = time.perf_counter()
    with reading(str(scene)) as dataset:
        pixels = torch.from_numpy(dataset.read())[None].float().div_(255)
    with torch.inference_mode(), torch.autocast(bench.device.type, dtype=torch.bfloat16):
        chances = inferers.sliding_window_inference(
            pixels, (bench.tile,) * 2, ours.batch, network.probabilities, overlap=0.25, mode="gaussian",
            sw_device=bench.device, device="cpu",
        )  # fmt: skip
    ids = chances[0].argmax(0, keepdim=True).to(torch.uint8).numpy()
    grid = square_grid(smaller.side)
    with image(bench.folder / "theirs.tif", grid=grid, bands=("class",), dtype="uint8", nodata=255, tags={}) as writer:
        writer.write(0, 0, ids)
    theirs = time.perf_counter() - began
    tell("MONAI ÷ ours", {"ratio": theirs / ours.seconds, "their_seconds": theirs, "our_seconds": ours.seconds})


def training(bench: Bench, tell: Tell) -> None:
    """Training of the pair in bf16: crops a second, the share of the time that waits for data, memory."""
    for compiled in (False, True):
        name = "training, compiled" if compiled else "training"
        if compiled and not bench.on_cuda:
            continue
        tell(name, _run_of(bench, name.replace(", ", "-"), compile=compiled))


def _run_of(bench: Bench, name: str, **flags: Any) -> dict[str, Any]:
    """Figures of the second half of a run: the first one warms up."""
    steps = 40 if bench.on_cuda else 2
    sizes = {
        "crop": bench.crop,
        "batch": bench.batch,
        "steps": steps,
        "val_every": steps,
        "log_every": min(10, steps // 2),
    }
    plain = {"clip_weights": "none", "dino_weights": "none"} if bench.networks == "base" else {"preset": "tiny"}
    data = replace(bench, side=min(bench.side, 2048)).sample().data
    values = {"data": str(data), "out": bench.folder / name, "device": str(bench.device), "precision": "bf16"}
    run = train_job.run(train_config.settings_of(None, {**values, **plain, **sizes, **flags}, []))
    lines = [json.loads(line) for line in (run.out / TIMING).read_text(encoding="utf-8").splitlines()]
    first, last = (next(line for line in lines if line["step"] == step) for step in (steps // 2, steps))
    seconds = last["seconds"] - first["seconds"]
    return {
        "crops_per_second": 2 * bench.batch * (steps // 2) / seconds,
        "waiting_share": (last["waited"] - first["waited"]) / seconds,
        "peak_gb": last["gpu_gb"],
    }


def loader(bench: Bench, tell: Tell) -> None:
    """Batches a second that the loader draws without any model, by preset and number of threads."""
    data = replace(bench, side=min(bench.side, 2048)).sample().data
    sizes: dict[str, dict[str, Any]] = {
        "default": {"crop": bench.crop, "batch": bench.batch},
        "small": {"students": ("local",), "init": "none"},
    }
    for preset, changes in sizes.items():
        for threads in sorted({1, 2, cores(1)}):
            tell(f"loader, preset {preset}, {threads} threads", _loader_rate(data, preset, threads, changes))


def _loader_rate(path: Path, preset: str, threads: int, changes: dict[str, Any], count: int = 24) -> dict[str, Any]:
    values = {"data": str(path), "preset": preset, "device": "cpu", "workers": threads, **changes}
    settings = train_config.settings_of(None, {**values, "clip_weights": "none", "dino_weights": "none"}, [])
    data = train_job.data_of(settings)
    drawn = loader_of(settings, data, Runtime(torch.device("cpu")), views=METHODS[settings.method].wants.strong)
    with closing(drawn.batches(0, count + threads)) as batches:
        for _ in range(threads):
            next(batches)
        began = time.perf_counter()
        for _ in range(count):
            next(batches)
    return {"batches_per_second": count / (time.perf_counter() - began)}


def exactness(bench: Bench, tell: Tell) -> None:
    """What exactness costs: kernels that are the same in any run, and slots of batches that stay empty."""
    scene, model = replace(bench, side=min(bench.side, 8 * bench.tile)).repeated(), bench.model("pair")
    prepared, engine = _settled(bench, scene, model)
    count = 8 if bench.on_cuda else 1
    ways = {"repeatable": repeatable(), "fastest": _fastest()}
    seconds = {}
    for name, way in ways.items():
        with way:
            seconds[name] = _forwards(engine, prepared, count)
    windows = len(prepared.lattice.plan)
    empty = -(-windows // engine.batch) * engine.batch / windows - 1
    tell("exactness", {"kernels": seconds["repeatable"] / seconds["fastest"] - 1, "empty_slots": empty, **seconds})


@contextmanager
def _fastest() -> Iterator[None]:
    """The kernels that are quickest on this device, with TF32 where it has that."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


FIGURES: dict[str, Callable[[Bench, Tell], None]] = {
    "pair": pair,
    "stages": stages,
    "training": training,
    "small networks": small_networks,
    "MONAI": monai,
    "exactness": exactness,
    "loader": loader,
}
"""By name, in the order in which they are made."""
