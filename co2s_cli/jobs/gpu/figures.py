"""Measurements: maps compared with the model alone, with reading and writing, with MONAI; training; its loader."""

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
from co2s_cli.inference.map_setup import MapContext, prepare_scene, set_up_engine
from co2s_cli.inference.mapping import MapResult
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import product_of
from co2s_cli.inference.targets import targets_of
from co2s_cli.jobs import train as train_job
from co2s_cli.jobs.gpu.bench import BANDS, Bench, SkippedError, square_grid
from co2s_cli.jobs.gpu.stages import host_stages, kernel_trace, utilisation
from co2s_cli.models import weights
from co2s_cli.resources import cores
from co2s_cli.tiling import Window
from co2s_cli.training.methods import METHODS
from co2s_cli.training.names import TIMING
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import loader_of

RecordFigure = Callable[[str, dict[str, Any]], None]
"""Writes a figure, name and values, to disk as soon as it is known."""

KINDS = (("uint8", 3), ("uint16", 4))
"""Sample type and number of bands of the measured scenes."""


def pair(bench: Bench, record: RecordFigure) -> None:
    """Speed of maps by the pair of transformers, and the share of the time that the model alone takes.

    The model alone runs as many windows in the same batches.
    """
    for dtype, bands in KINDS:
        scene, model = bench.repeated(dtype=dtype, bands=bands), bench.model("pair", bands=bands, dtype=dtype)
        _warm_up(bench, model, dtype, bands)
        with utilisation() as busy:
            result = bench.predict(scene, "map", model=model, precision="bf16")
        seconds = _model_alone(bench, scene, model)
        ratio = {"model_alone_seconds": seconds, "model_share": seconds / result.seconds}
        record(f"pair {dtype} {bands} bands", {**_speed_figures(result), **ratio, "utilisation": busy()})


def _warm_up(bench: Bench, model: Path, dtype: str, bands: int) -> None:
    """Make a small map, so that loading of libraries and kernels does not count."""
    small = replace(bench, side=min(bench.side, 4 * bench.tile))
    bench.predict(small.repeated(dtype=dtype, bands=bands), "warm", model=model, precision="bf16")


def _speed_figures(result: MapResult) -> dict[str, Any]:
    return {
        "megapixels_per_second": result.megapixels_per_second,
        "seconds": result.seconds,
        "waited_share": result.waited,
        "batch": result.batch,
        "windows": result.windows,
    }


def _prepared_like_predict(bench: Bench, scene: Path, model: Path) -> tuple[PreparedScene, InferenceEngine]:
    """The scene and the engine, prepared as by `co2s predict`."""
    values = {"scenes": [str(scene)], "out": bench.folder / "unused.tif", "model": model, "tile": bench.tile}
    settings = PredictConfig.model_validate({**values, "device": str(bench.device), "precision": "bf16"})
    manifest = weights.read_manifest(model)
    context = MapContext.of(settings, ModelFile(model, manifest), product_of(settings, manifest))
    (target,) = targets_of(settings.scenes, settings.out, settings.extra_outputs())
    prepared = prepare_scene(context, target)
    return prepared, set_up_engine(context, prepared, None)[0]


def _model_alone(bench: Bench, scene: Path, model: Path) -> float:
    """Seconds to run every window of a scene once through the model, in batches as in `co2s predict`."""
    prepared, engine = _prepared_like_predict(bench, scene, model)
    with repeatable():
        return _forwards(engine, prepared, -(-len(prepared.lattice.plan) // engine.batch))


def _forwards(engine: InferenceEngine, scene: PreparedScene, count: int) -> float:
    """Seconds to run `count` batches after a warm-up; on a CPU in one thread per core, as in `co2s predict`."""
    with scene.reader() as reader:
        pixels = reader.read(scene.lattice.plan.window(0, 0)).pixels
    batch = [(slot, pixels) for slot in range(engine.batch)]
    threads = cores(1) if engine.device.type == "cpu" else 1
    with ThreadPoolExecutor(threads, initializer=one_thread) as pool:
        list(pool.map(lambda _: engine.run(batch), range(threads)))
        _synchronize(engine.device)
        started = time.perf_counter()
        for _ in pool.map(lambda _: engine.run(batch)[0, 0, 0, 0], range(count)):
            pass
        _synchronize(engine.device)
        return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stages(bench: Bench, record: RecordFigure) -> None:
    """Profile of a map: seconds of each stage on the host, and of each kernel on the device (trace.json)."""
    scene, model = bench.repeated(), bench.model("pair")
    _warm_up(bench, model, *KINDS[0])
    with host_stages() as seconds:
        result = bench.predict(scene, "staged", model=model, precision="bf16")
    record("stages of the pair, host seconds of all threads", {**_speed_figures(result), **seconds})
    small = replace(bench, side=min(bench.side, 8 * bench.tile)).repeated()
    with kernel_trace(bench.folder / "trace.json") as kernels:
        bench.predict(small, "traced", model=model, precision="bf16")
    record("kernels of the pair, seconds", kernels)


def small_networks(bench: Bench, record: RecordFigure) -> None:
    """Maps by small networks, whose time is mostly reading and writing, compared with only copying the scene."""
    for dtype, bands in KINDS:
        scene = bench.repeated(dtype=dtype, bands=bands)
        copy_seconds = _copy(bench, scene, bands, dtype)
        rate = bench.side**2 / 1e6 / copy_seconds
        record(f"reading and writing {dtype} {bands} bands", {"seconds": copy_seconds, "megapixels_per_second": rate})
        for name in ("local", "compact"):
            model = bench.model(name, bands=bands, dtype=dtype)
            _warm_up(bench, model, dtype, bands)
            with utilisation() as busy:
                result = bench.predict(scene, name, model=model, precision="bf16")
            facts = {**_speed_figures(result), "copy_share": copy_seconds / result.seconds, "utilisation": busy()}
            record(f"{name} {dtype} {bands} bands", facts)


def _copy(bench: Bench, scene: Path, bands: int, dtype: str) -> float:
    """Seconds to read a scene and write a compressed copy, both with one thread per core."""

    def rows(row: int) -> np.ndarray[Any, Any]:
        window = Window(row, 0, min(TILE, bench.side - row), bench.side)
        with band_reader(str(scene)) as reader:
            return np.stack([reader.read(window, band=band) for band in range(1, bands + 1)])

    started, grid = time.perf_counter(), square_grid(bench.side)
    with (
        ThreadPoolExecutor(cores(1)) as pool,
        image(bench.folder / "copy.tif", grid=grid, bands=BANDS[:bands], dtype=dtype, nodata=0, tags={}) as writer,
    ):
        for index, strip in enumerate(pool.map(rows, range(0, bench.side, TILE))):
            writer.write(index * TILE, 0, strip)
    return time.perf_counter() - started


def monai(bench: Bench, record: RecordFigure) -> None:
    """MONAI's sliding window, with reading and writing, on the same scene, weights, windows, overlap and precision."""
    try:
        inferers: Any = importlib.import_module("monai.inferers")
    except ImportError as error:
        raise SkippedError("MONAI is not installed") from error
    smaller = replace(bench, side=min(bench.side, 8192))  # MONAI holds the probabilities of the whole scene in memory
    scene, model = smaller.repeated(), bench.model("pair")
    _warm_up(bench, model, *KINDS[0])
    ours = smaller.predict(scene, "ours", model=model, precision="bf16")
    network = weights.load(model, bench.device).eval()
    started = time.perf_counter()
    with reading(str(scene)) as dataset:
        pixels = torch.from_numpy(dataset.read())[None].float().div_(255)
    with torch.inference_mode(), torch.autocast(bench.device.type, dtype=torch.bfloat16):
        probabilities = inferers.sliding_window_inference(
            pixels, (bench.tile,) * 2, ours.batch, network.probabilities, overlap=0.25, mode="gaussian",
            sw_device=bench.device, device="cpu",
        )  # fmt: skip
    class_ids = probabilities[0].argmax(0, keepdim=True).to(torch.uint8).numpy()
    grid = square_grid(smaller.side)
    with image(bench.folder / "theirs.tif", grid=grid, bands=("class",), dtype="uint8", nodata=255, tags={}) as writer:
        writer.write(0, 0, class_ids)
    monai_seconds = time.perf_counter() - started
    ratio = monai_seconds / ours.seconds
    record("MONAI ÷ ours", {"ratio": ratio, "their_seconds": monai_seconds, "our_seconds": ours.seconds})


def training(bench: Bench, record: RecordFigure) -> None:
    """Training of the pair in bf16: crops per second, share of the time spent waiting for data, peak memory."""
    for compiled in (False, True):
        name = "training, compiled" if compiled else "training"
        if compiled and not bench.on_cuda:
            continue
        record(name, _run_of(bench, name.replace(", ", "-"), compile=compiled))


def _run_of(bench: Bench, name: str, **flags: Any) -> dict[str, Any]:
    """Figures of the second half of a training run; the first half is the warm-up."""
    steps = 40 if bench.on_cuda else 2
    sizes = {
        "crop": bench.crop,
        "batch": bench.batch,
        "steps": steps,
        "val_every": steps,
        "log_every": min(10, steps // 2),
    }
    networks = {"clip_weights": "none", "dino_weights": "none"} if bench.networks == "base" else {"preset": "tiny"}
    data = replace(bench, side=min(bench.side, 2048)).sample().data
    values = {"data": str(data), "out": bench.folder / name, "device": str(bench.device), "precision": "bf16"}
    run = train_job.run(train_config.settings_of(None, {**values, **networks, **sizes, **flags}, []))
    lines = [json.loads(line) for line in (run.out / TIMING).read_text(encoding="utf-8").splitlines()]
    first, last = (next(line for line in lines if line["step"] == step) for step in (steps // 2, steps))
    seconds = last["seconds"] - first["seconds"]
    return {
        "crops_per_second": 2 * bench.batch * (steps // 2) / seconds,
        "waiting_share": (last["waited"] - first["waited"]) / seconds,
        "peak_gb": last["gpu_gb"],
    }


def loader(bench: Bench, record: RecordFigure) -> None:
    """Batches per second of the loader without any model, by preset and number of threads."""
    data = replace(bench, side=min(bench.side, 2048)).sample().data
    sizes: dict[str, dict[str, Any]] = {
        "default": {"crop": bench.crop, "batch": bench.batch},
        "small": {"students": ("local",), "init": "none"},
    }
    for preset, changes in sizes.items():
        for threads in sorted({1, 2, cores(1)}):
            record(f"loader, preset {preset}, {threads} threads", _loader_rate(data, preset, threads, changes))


def _loader_rate(path: Path, preset: str, threads: int, changes: dict[str, Any], count: int = 24) -> dict[str, Any]:
    """Batches per second over `count` batches, after one batch per thread as warm-up."""
    values = {"data": str(path), "preset": preset, "device": "cpu", "workers": threads, **changes}
    settings = train_config.settings_of(None, {**values, "clip_weights": "none", "dino_weights": "none"}, [])
    data = train_job.data_of(settings)
    batch_loader = loader_of(
        settings, data, Runtime(torch.device("cpu")), views=METHODS[settings.method].required.strong
    )
    with closing(batch_loader.batches(0, count + threads)) as batches:
        for _ in range(threads):
            next(batches)
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
    return {"batches_per_second": count / (time.perf_counter() - started)}


def exactness(bench: Bench, record: RecordFigure) -> None:
    """Cost of bit-for-bit repeatable maps: slower kernels, and slots of batches that stay empty."""
    scene, model = replace(bench, side=min(bench.side, 8 * bench.tile)).repeated(), bench.model("pair")
    prepared, engine = _prepared_like_predict(bench, scene, model)
    count = 8 if bench.on_cuda else 1
    modes = {"repeatable": repeatable(), "fastest": _fastest()}
    seconds = {}
    for name, mode in modes.items():
        with mode:
            seconds[name] = _forwards(engine, prepared, count)
    windows = len(prepared.lattice.plan)
    empty = -(-windows // engine.batch) * engine.batch / windows - 1
    record("exactness", {"kernels": seconds["repeatable"] / seconds["fastest"] - 1, "empty_slots": empty, **seconds})


@contextmanager
def _fastest() -> Iterator[None]:
    """Use the fastest kernels of this device, with TF32 if it has that."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


FIGURES: dict[str, Callable[[Bench, RecordFigure], None]] = {
    "pair": pair,
    "stages": stages,
    "training": training,
    "small networks": small_networks,
    "MONAI": monai,
    "exactness": exactness,
    "loader": loader,
}
"""All measurements by name, in the order in which they run."""
