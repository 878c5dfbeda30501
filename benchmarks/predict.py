"""How near `co2s predict` comes to its model alone, to plain reading and writing, and how it compares with MONAI.

    python benchmarks/predict.py [model] [pipeline] [memory] [monai] [student]

Without names, all five. The scenes are the sample scene laid out side by side. MONAI is optional
(`pip install --no-deps monai`); where it is absent its part says "skipped".
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.classes import ClassMap
from co2s_cli.config.predict import PredictConfig
from co2s_cli.inference.engine import one_thread, repeatable
from co2s_cli.inference.map_setup import MapContext, prepare_scene, set_up_engine
from co2s_cli.inference.mapping import make_map
from co2s_cli.inference.model import ModelFile
from co2s_cli.inference.products import product_of, quantised
from co2s_cli.inference.targets import targets_of
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import DenseSpec, GuidedSpec, Manifest, ModelScaling
from co2s_cli.progress import Silent
from co2s_cli.resources import cores

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data" / "scene.tif"
CLASSES = 6


def main() -> None:
    """Run what is asked for."""
    parts = {"model": model_alone, "pipeline": free_model, "memory": memory, "monai": monai, "student": student}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(parts))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--model-size", type=int, default=2048, help="side of the scene of `model` and `monai`")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    parser.add_argument("--pipeline-size", type=int, default=8192)
    parser.add_argument("--student-size", type=int, default=1280, help="side of the scene of `student`")
    parser.add_argument("--memory-sizes", type=int, nargs=2, default=(4000, 20_000))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.parts or parts:
            parts[name](Path(folder), arguments)


def lay_out(path: Path, size: int) -> Path:
    """The sample scene repeated to `size` × `size` pixels."""
    with rasterio.open(SAMPLE) as sample:
        pixels, profile = sample.read(), sample.profile
    profile.update(
        driver="GTiff", height=size, width=size, tiled=True, blockxsize=512, blockysize=512, compress="deflate"
    )
    across = np.tile(pixels, (1, 1, -(-size // pixels.shape[2])))[:, :, :size]
    with rasterio.open(path, "w", **profile, bigtiff="if_safer") as scene:
        for row in range(0, size, 512):
            height = min(512, size - row)
            rows = across[:, (row + np.arange(height)) % pixels.shape[1]]
            scene.write(rows, window=rasterio.windows.Window(0, row, size, height))
    return path


def base_pair(path: Path) -> Path:
    """The published sizes (ViT-B/16 twice), freshly drawn."""
    torch.manual_seed(0)
    students = {
        "clip": catalog.clip_student("ViT-B-16"),
        "dino": catalog.dino_student("vit_base_patch16_dinov3_qkvb.lvd1689m"),
    }
    weights.save(fresh.new_ensemble(manifest_of(students)), path)
    return path


def compact_student(path: Path) -> Path:
    """A single ViT-S/16 with the DPT head, freshly drawn."""
    torch.manual_seed(0)
    spec = catalog.dense_student("vit_small_patch16_dinov3.lvd1689m")
    weights.save(fresh.new_ensemble(manifest_of({"student": spec})), path)
    return path


def manifest_of(students: dict[str, GuidedSpec | DenseSpec]) -> Manifest:
    """The manifest of a model of some students for the benchmark's classes."""
    return Manifest(
        classes=tuple(ClassMap.of([f"class {place}" for place in range(CLASSES)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students=students,
    )


def context_of(settings: PredictConfig) -> MapContext:
    """What the command itself prepares before its first scene."""
    manifest = weights.read_manifest(settings.model)
    return MapContext.of(settings, ModelFile(settings.model, manifest), product_of(settings, manifest))


class Clock(Silent):
    """Seconds by the wall and by the processors, from `start` on: the second keep still when others use the machine."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None

    def start(self, *_: object) -> None:
        """Begin to count, at the first stage."""
        self.began = self.began or (time.perf_counter(), time.process_time())

    def read(self) -> tuple[float, float]:
        """Seconds since then."""
        assert self.began is not None
        return time.perf_counter() - self.began[0], time.process_time() - self.began[1]


def end_to_end(context: MapContext, settings: PredictConfig) -> tuple[float, float]:
    """Seconds from the first read to the closed files; the model is loaded already."""
    (target,) = targets_of(settings.scenes, settings.out, settings.extra_outputs())
    clock = Clock()
    make_map(replace(context, progress=clock), target)
    return clock.read()


def best(rounds: list[tuple[tuple[float, float], tuple[float, float]]]) -> str:
    """The ratio of the best rounds of two ways, by the wall and by the processors."""
    (first, first_cpu), (second, second_cpu) = (
        tuple(min(one[way][kind] for one in rounds) for kind in (0, 1)) for way in (0, 1)
    )
    return (
        f"{first:.1f} s ÷ {second:.1f} s = {first / second:.3f} "
        f"(processor time {first_cpu:.1f} s ÷ {second_cpu:.1f} s = {first_cpu / second_cpu:.3f})"
    )


def model_alone(folder: Path, arguments: argparse.Namespace) -> None:
    """1. Every window of the plan once through the model, against the whole command."""
    scene = lay_out(folder / "scene.tif", arguments.model_size)
    settings = PredictConfig(
        scenes=[str(scene)], out=folder / "map.tif", model=base_pair(folder / "base.safetensors"), overwrite=True,
        device=arguments.device, precision=arguments.precision,
    )  # fmt: skip
    context = context_of(settings)
    (target,) = targets_of(settings.scenes, settings.out, settings.extra_outputs())
    prepared = prepare_scene(context, target)
    engine, _ = set_up_engine(context, prepared, None)
    lanes = cores(1) if engine.device.type == "cpu" else 1
    batches = -(-len(prepared.lattice.plan) // engine.batch)
    with prepared.reader() as reader:
        pixels = reader.read(prepared.lattice.plan.window(0, 0)).pixels
    batch = [(slot, pixels) for slot in range(engine.batch)]

    def alone() -> tuple[float, float]:
        with repeatable(), ThreadPoolExecutor(lanes, initializer=one_thread) as pool:
            clock = Clock()
            clock.start()
            for _ in pool.map(lambda _: engine.run(batch)[0, 0, 0, 0].item(), range(batches)):
                pass
            return clock.read()

    alone()
    ratio = best([(alone(), end_to_end(context, settings)) for _ in range(arguments.rounds)])
    windows = len(prepared.lattice.plan)
    print(f"1. model alone ÷ end to end: {ratio}; ViT-B pair, {windows} windows, {engine.precision}", flush=True)


def free_model(folder: Path, arguments: argparse.Namespace) -> None:
    """2. The whole way with a model that costs nothing, against block-wise reading and writing by rasterio alone."""
    scene = lay_out(folder / "scene.tif", arguments.pipeline_size)
    answer = torch.rand(1, CLASSES, 16, 16).repeat_interleave(32, 2).repeat_interleave(32, 3).softmax(1)
    labels, sure = answer[0].argmax(0).to(torch.uint8).numpy(), quantised(answer[0].amax(0)).numpy()
    for beside in ({}, {"confidence": folder / "confidence.tif"}):
        settings = PredictConfig(
            scenes=[str(scene)], out=folder / "map.tif", model=weights.demo_path(), tile=512, overwrite=True,
            device="cpu", precision="fp32", **beside,
        )  # fmt: skip
        context = free_context(settings, answer)
        written = {"a map and confidence": [labels, sure]} if beside else {"the scene": [], "a map": [labels]}
        rounds = {name: [] for name in written}
        for _ in range(arguments.rounds):
            ours = end_to_end(context, settings)
            for name, rasters in written.items():
                rounds[name].append((copy_blocks(scene, folder / "copy.tif", rasters), ours))
        for name, pairs in rounds.items():
            print(f"2. rasterio alone, reading the scene and writing {name} ÷ free model: {best(pairs)}", flush=True)


def free_context(settings: PredictConfig, answer: Tensor) -> MapContext:
    """A context whose model gives the same probabilities for every window, at once."""
    context = context_of(settings)
    loaded = context.model.load(settings, context.device, "fp32")
    context.model._loaded = replace(loaded, members=lambda _: {"clip": answer, "dino": answer})
    return context


def copy_blocks(scene: Path, out: Path, rasters: list[NDArray[np.uint8]]) -> tuple[float, float]:
    """Seconds to read a scene by blocks and to write it again, or the same pixels in each block of COGs as ours are."""
    clock = Clock()
    clock.start()
    raws = [out.with_suffix(f".{number}.tif") for number in range(max(1, len(rasters)))]
    with rasterio.open(scene) as source, ExitStack() as stack:
        bands = {"count": 1, "nodata": 255, "photometric": "minisblack"} if rasters else {}
        profile = source.profile | {"driver": "GTiff", **bands}
        targets = [stack.enter_context(rasterio.open(raw, "w", **profile)) for raw in raws]
        for _, window in source.block_windows(1):
            pixels = source.read(window=window)
            for number, target in enumerate(targets):
                block = rasters[number][None, : window.height, : window.width] if rasters else pixels
                target.write(block, window=window)
    for raw, resampling in zip(raws, ("mode", "average"), strict=False):
        if rasters:
            options = {"compress": "deflate", "overview_resampling": resampling, "num_threads": "all_cpus"}
            rasterio.shutil.copy(raw, out, driver="COG", blocksize=512, **options)
    return clock.read()


def memory(folder: Path, arguments: argparse.Namespace) -> None:
    """3. Peak memory of the process tree at two sizes, with the demonstration model."""
    peaks = []
    for size in arguments.memory_sizes:
        scene = lay_out(folder / "scene.tif", size)
        command = ["-m", "co2s_cli", "predict", str(scene), "--out", str(folder / "map.tif"), "--mem-limit", "2GB"]
        (seconds, _), peak = watched([*command, "--overwrite", "--json"])
        peaks.append(peak)
        print(f"   {size}²: peak {peak / 1e9:.2f} GB with --mem-limit 2GB, {seconds:.0f} s", flush=True)
    print(f"3. peak memory, {arguments.memory_sizes[1]}² ÷ {arguments.memory_sizes[0]}²: {peaks[1] / peaks[0]:.2f}")


def monai(folder: Path, arguments: argparse.Namespace) -> None:
    """4. MONAI's sliding window with rasterio around it: same scene, model, window, overlap, precision."""
    try:
        import monai as _  # noqa: F401
    except ImportError:
        print("4. MONAI: skipped, it is not installed")
        return
    scene = lay_out(folder / "scene.tif", arguments.model_size)
    model = base_pair(folder / "base.safetensors")
    ours = ["-m", "co2s_cli", "predict", str(scene), "--out", str(folder / "map.tif"), "--model", str(model),
            "--overwrite", "--json", "--device", arguments.device, "--precision", arguments.precision]  # fmt: skip
    theirs = [__file__, "--their-way", str(scene), str(folder / "theirs.tif"), str(model)]
    rounds = [(watched(theirs), watched(ours)) for _ in range(arguments.rounds)]
    theirs_peak, ours_peak = (min(one[way][1] for one in rounds) for way in (0, 1))
    ratio = best([(them[0], us[0]) for them, us in rounds])
    peaks = f"{theirs_peak / 1e9:.2f} GB ÷ {ours_peak / 1e9:.2f} GB = {theirs_peak / ours_peak:.2f}"
    print(f"4. MONAI ÷ ours, whole processes: {ratio}; memory {peaks}")


def student(folder: Path, arguments: argparse.Namespace) -> None:
    """5. The whole command by the ViT-B pair against the same by a compact student, in turns, in each precision."""
    scene = lay_out(folder / "scene.tif", arguments.student_size)
    models = base_pair(folder / "base.safetensors"), compact_student(folder / "student.safetensors")
    for precision in ("fp32", "bf16") if arguments.precision == "auto" else (arguments.precision,):
        wishes = [
            PredictConfig(
                scenes=[str(scene)], out=folder / "map.tif", model=model, overwrite=True, device=arguments.device,
                precision=precision,
            )
            for model in models
        ]  # fmt: skip
        contexts = [context_of(settings) for settings in wishes]
        rounds = []
        for _ in range(arguments.rounds + 1):
            both = [end_to_end(context, settings) for context, settings in zip(contexts, wishes, strict=True)]
            rounds.append((both[0], both[1]))
        print(f"5. ViT-B pair ÷ compact ViT-S student, end to end, {precision}: {best(rounds[1:])}", flush=True)


def their_way(scene: str, out: str, model: str) -> None:
    """What a user writes around MONAI: read the scene, slide, argmax, write."""
    from monai.inferers import sliding_window_inference

    pair = weights.load(model)
    with rasterio.open(scene) as source:
        image, profile = torch.from_numpy(source.read()).float()[None] / 255, source.profile
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        chances = sliding_window_inference(image, (512, 512), 1, pair.probabilities, overlap=0.25, mode="gaussian")
    profile.update(count=1, nodata=255, driver="GTiff", photometric="minisblack")
    with rasterio.open(out, "w", **profile) as target:
        target.write(chances[0].argmax(0).to(torch.uint8).numpy(), 1)


def watched(command: list[str]) -> tuple[tuple[float, float], int]:
    """Seconds, by the wall and by the processors, and peak resident bytes of a python process with its children."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with peak_of(psutil.Process(process.pid)) as peak:
        _, told = process.communicate()
    if process.returncode:
        sys.exit(told.decode())
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return (time.perf_counter() - began, processor), peak[0]


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """The most that a process tree holds while the block runs, in bytes, as the only item of a list."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            try:
                tree = [process, *process.children(recursive=True)]
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in tree))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--their-way"]:
        their_way(*sys.argv[2:])
    else:
        main()
