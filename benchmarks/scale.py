"""What Ray costs: processor time of many scenes by two actors over that of one process; memory of the driver.

    python benchmarks/scale.py --scenes 40 --stubs 10000

Processor time is that of all processes that a command starts, Ray's own included. The start of Python, Ray and the
model is told apart by a run of two scenes. Stub scenes pass through driver and actors as real ones do, but nothing is
made of them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio
from affine import Affine

from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig
from co2s_cli.inference.map_setup import MapContext
from co2s_cli.inference.targets import Target
from co2s_cli.jobs import on_ray, predict
from co2s_cli.progress import Progress, Silent

SIDE = 1024


def made(folder: Path, count: int) -> Path:
    """Scenes of noise."""
    folder.mkdir()
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_500_000)}
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8", "tiled": True}
    for number in range(count):
        pixels = np.random.default_rng(number).integers(1, 200, (3, SIDE, SIDE)).astype(np.uint8)
        with rasterio.open(folder / f"{number}.tif", "w", **profile, **place) as dataset:
            dataset.write(pixels)
    return folder


def processor_seconds(*flags: object) -> tuple[float, float]:
    """Of a command and all that it starts, by looks at its processes five times a second; and seconds by the clock."""
    began = time.monotonic()
    seen: dict[int, float] = {}
    command = psutil.Popen(
        [sys.executable, "-m", "co2s_cli", "-q", "predict", *map(str, flags)], stdout=subprocess.DEVNULL
    )
    while command.poll() is None:
        for process in [command, *command.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            seen[process.pid] = times.user + times.system
        time.sleep(0.2)
    assert command.returncode == 0
    return sum(seen.values()), time.monotonic() - began


def scenes(count: int) -> None:
    """Two actors beside one process."""
    with tempfile.TemporaryDirectory() as name_of_place:
        place = Path(name_of_place)
        few, many = made(place / "few", 2), made(place / "many", count)
        figures: dict[tuple[str, str], tuple[float, float]] = {}
        for name, more in (("one", []), ("ray", ["--engine", "ray", "--workers", "2"])):
            for label, folder in (("few", few), ("many", many)):
                out = place / f"{name}-{label}"
                out.mkdir()
                figures[name, label] = processor_seconds(folder, "--out", out, "--precision", "fp32", *more)
                print(name, label, *(f"{seconds:.1f} s" for seconds in figures[name, label]), flush=True)
        differ = sum(
            (place / "one-many" / path.name).read_bytes() != (place / "ray-many" / path.name).read_bytes()
            for path in many.iterdir()
        )
    each = {n: (figures[n, "many"][0] - figures[n, "few"][0]) / (count - 2) for n in ("one", "ray")}
    print(f"a scene: one process {each['one']:.3f} s, Ray {each['ray']:.3f} s, ratio {each['ray'] / each['one']:.3f}")
    print(f"{count} scenes, start included: {figures['ray', 'many'][0] / figures['one', 'many'][0]:.3f}")
    whole = {n: figures[n, "few"][0] + each[n] * 198 for n in ("one", "ray")}
    print(f"200 scenes, start included, calculated: {whole['ray'] / whole['one']:.3f}")
    print(f"maps that differ: {differ} of {count}")


def stub_context(settings: PredictConfig, progress: Progress) -> MapContext:
    """Of predict, in a process that makes nothing of a scene."""
    from co2s_cli.inference import mapping

    mapping.make_map = lambda _, target: mapping.MapResult(target.source, {"class": target.out}, "made")
    return predict.context_of(settings, progress)


class Memory(Silent):
    """Notes the driver's memory at every tenth of the scenes."""

    def __init__(self, count: int) -> None:
        self.step, self.done = max(1, count // 10), 0
        self.seen: dict[int, float] = {}

    def advance(self, count: int = 1, **_: object) -> None:
        """Look at each tenth."""
        self.done += count
        if self.done % self.step == 0 and self.done not in self.seen:
            self.seen[self.done] = psutil.Process().memory_info().rss / 1e6


def stubs(count: int) -> None:
    """The driver's memory over many scenes."""
    settings = load(PredictConfig, None, {"scenes": ["-"], "out": Path("-"), "engine": "ray", "workers": 2})
    targets = [Target(f"/scenes/{n}.tif", Path(f"/maps/{n}.tif")) for n in range(count)]
    memory, began = Memory(count), time.monotonic()
    on_ray.make_maps(stub_context, settings, targets, memory, single_scene=False)
    print("scenes: MB of the driver", {done: round(size, 1) for done, size in memory.seen.items()})
    print(f"{(time.monotonic() - began) / count * 1000:.1f} ms a scene")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--stubs", type=int, default=10_000)
    chosen = parser.parse_args()
    if chosen.stubs:
        stubs(chosen.stubs)
    if chosen.scenes:
        scenes(chosen.scenes)
