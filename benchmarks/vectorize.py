"""`co2s vectorize` against `rasterio.features` (`sieve`, `shapes`) → GeoDataFrame → `to_file`: time, memory, validity.

Each way runs in a process of its own, from the call to the closed file; its memory is the sum over that process and its
children, less what they take before the call, imports and idle workers included. Prints Markdown tables.

    python benchmarks/vectorize.py [--size 8192] [--huge 50000] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyogrio
import rasterio
import shapely
from rasterio.transform import from_origin
from scipy import ndimage


class Flags(NamedTuple):
    """What is made of a map."""

    min_pixels: int
    """Smaller regions join their largest neighbour."""
    simplify: float
    """Tolerance in pixels."""

    def __str__(self) -> str:
        return f"--min-area {self.min_pixels}px --simplify {self.simplify:g}px"


DEFAULTS = Flags(8, 1.5)
TILE = 1024
CORNER = 256
"""Side of the corner of a map on which coverages are checked."""
CRS = "EPSG:32633"


def landscape(size: int, seed: int = 1) -> np.ndarray:
    """Labels of a made-up landscape."""
    from co2s_cli.data.landscape import Landscape
    from co2s_cli.tiling import Window

    scene, labels = Landscape(seed=seed, size=size), np.empty((size, size), np.uint8)
    for row in range(0, size, TILE):
        for col in range(0, size, TILE):
            window = Window(row, col, min(TILE, size - row), min(TILE, size - col))
            labels[window.slices] = scene.block(window)[1]
    return labels


def noisy(labels: np.ndarray, seed: int = 2) -> np.ndarray:
    """The labels as a model that is not sure would give them: soft borders, and speckle where classes are alike."""
    rng = np.random.default_rng(seed)
    classes = [int(value) for value in np.unique(labels) if value != 255]
    result = np.full(labels.shape, 255, np.uint8)
    for row in range(0, len(labels), TILE):
        part = labels[row : row + TILE]
        best = np.full(part.shape, -np.inf, np.float32)
        guess = np.zeros(part.shape, np.uint8)
        for value in classes:
            noise = ndimage.gaussian_filter(rng.standard_normal(part.shape, np.float32), 1.0)
            score = ndimage.gaussian_filter((part == value).astype(np.float32), 2.0) + 0.85 * noise / noise.std() * 0.35
            better = score > best
            guess[better], best[better] = value, score[better]
        result[row : row + TILE] = np.where(part == 255, 255, guess)
    return result


def write(path: Path, labels: np.ndarray) -> None:
    """A tiled GeoTIFF."""
    with rasterio.open(
        path, "w", driver="GTiff", height=len(labels), width=labels.shape[1], count=1, dtype="uint8", nodata=255,
        crs=CRS, transform=from_origin(400_000, 5_600_000, 10, 10), tiled=True, blockxsize=512, blockysize=512,
        compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(labels, 1)


def repeat(path: Path, source: Path, size: int) -> None:
    """A VRT of `size` × `size` pixels that repeats a smaller raster."""
    with rasterio.open(source) as dataset:
        side = dataset.width
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{min(side, size - col)}" ySize="{min(side, size - row)}"/>'
        f'<DstRect xOff="{col}" yOff="{row}" xSize="{min(side, size - col)}" ySize="{min(side, size - row)}"/>'
        "</SimpleSource>"
        for row in range(0, size, side)
        for col in range(0, size, side)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>{CRS}</SRS>'
        "<GeoTransform>400000, 1, 0, 5600000, 0, -1</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>255</NoDataValue>{parts}</VRTRasterBand></VRTDataset>'
    )


def ours(raster: str, out: str, min_pixels: int, simplify: float, workers: int) -> None:
    """`co2s vectorize`."""
    from co2s_cli.config.vectorize import Amount, VectorizeConfig
    from co2s_cli.jobs import vectorize

    settings = VectorizeConfig(
        raster=raster,
        out=Path(out),
        min_area=Amount(min_pixels, "px"),
        simplify=Amount(simplify, "px"),
        workers=workers,
        overwrite=True,
    )
    vectorize.run(settings)


def theirs(raster: str, out: str, min_pixels: int, simplify: float, _workers: int) -> None:
    """The usual way, with the same attributes."""
    import geopandas
    from rasterio import features
    from shapely.geometry import shape

    with rasterio.open(raster) as dataset:
        labels, transform = dataset.read(1), dataset.transform
    if min_pixels > 1:
        labels = features.sieve(labels, min_pixels, mask=labels != 255, connectivity=4)
    outlines = [(shape(outline), int(value)) for outline, value in features.shapes(labels, labels != 255, 4, transform)]
    frame = geopandas.GeoDataFrame(
        {"class_id": np.array([value for _, value in outlines], np.int32)},
        geometry=[outline for outline, _ in outlines],
        crs=CRS,
    )
    frame["class"] = "class " + frame.class_id.astype(str)
    if simplify:
        frame["geometry"] = frame.simplify(simplify * transform.a)
    frame["area_m2"], frame["perimeter_m"] = frame.area, frame.length
    frame.to_file(out)


def child(way: str, raster: str, out: str, min_pixels: int, simplify: float, workers: int) -> None:
    """Run one way; print what memory was taken before, then seconds by the clock and seconds of processors."""
    import geopandas  # noqa: F401 - before the clock starts
    import shapely.geometry  # noqa: F401

    from co2s_cli.jobs import vectorize  # noqa: F401

    logging.disable()
    print(_memory(psutil.Process()), _import_bytes(), flush=True)
    start, busy = time.perf_counter(), sum(os.times()[:4])
    {"ours": ours, "theirs": theirs}[way](raster, out, min_pixels, simplify, workers)
    print(time.perf_counter() - start, sum(os.times()[:4]) - busy, flush=True)


def _import_bytes() -> int:
    """What the imports take in a process that works on blocks."""
    code = "import co2s_cli.geo.polygons.stream, psutil; print(psutil.Process().memory_info().rss)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def _memory(process: psutil.Process, child_bytes: int = 0) -> int:
    """Bytes of a process and its children, less `child_bytes` for each of these."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            used = member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        total += used if member.pid == process.pid else max(0, used - child_bytes)
    return total


def measure(way: str, raster: Path, out: Path, flags: Flags, workers: int) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processors, and megabytes above what the imports take."""
    command = [sys.executable, __file__, "--child", json.dumps([way, str(raster), str(out), *flags, workers])]
    out.unlink(missing_ok=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        before, each = map(int, running.stdout.readline().split())
        peak, process = 0, psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, _memory(process, each))
            time.sleep(0.02)
        seconds, processor_seconds = map(float, running.stdout.read().split())
    return seconds, processor_seconds, (peak - before) / 1e6


def polygons(path: Path) -> np.ndarray:
    """All polygons of a file."""
    return pyogrio.read_dataframe(path, columns=["class_id"]).geometry.to_numpy()


def misfits(shapes: np.ndarray) -> tuple[float, float]:
    """Gaps and overlaps as shares of the area."""
    shapes = shapely.make_valid(shapes)
    cover = shapely.union_all(shapes).area
    total = shapely.box(*shapely.total_bounds(shapes)).area
    return 1 - cover / total, (shapely.area(shapes).sum() - cover) / total


def is_coverage(way: str, raster: Path, folder: Path) -> bool:
    """Whether what one way makes of a corner of a map is a valid coverage (GEOS takes hours for the whole)."""
    with rasterio.open(raster) as dataset:
        write(folder / "corner.tif", dataset.read(1, window=((0, CORNER), (0, CORNER))))
    out = folder / "corner.gpkg"
    measure(way, folder / "corner.tif", out, Flags(0, 0), 1)
    return bool(shapely.coverage_is_valid(polygons(out)))


def compare(name: str, raster: Path, folder: Path, flags: Flags, workers: int) -> None:
    """Both ways on one map; each row is one run."""
    print(f"\n{name}, {flags}\n")
    print("| way | seconds | processor seconds | memory above imports, MB | polygons |")
    print("|---|---|---|---|---|")
    figures = {}
    for way in ("theirs", "ours"):
        out = folder / f"{way}.gpkg"
        seconds, processor_seconds, megabytes = figures[way] = measure(way, raster, out, flags, workers)
        count = pyogrio.read_info(out)["features"]
        print(f"| {way} | {seconds:.1f} | {processor_seconds:.1f} | {megabytes:.0f} | {count} |")
    clock, busy, memory = (their / our for their, our in zip(figures["theirs"], figures["ours"], strict=True))
    print(f"\n{clock:.1f} × as fast by the clock, {busy:.1f} × by processors, memory ÷ {memory:.1f}", flush=True)


def compare_simplified(raster: Path, folder: Path, workers: int) -> None:
    """Both ways with borders simplified by 1.5 pixels."""
    print("\nSimplified by 1.5 px\n")
    print("| way | seconds | polygons | valid coverage | gaps | overlaps |")
    print("|---|---|---|---|---|---|")
    for way in ("theirs", "ours"):
        out = folder / f"{way}.gpkg"
        seconds, _, _ = measure(way, raster, out, Flags(0, 1.5), workers)
        shapes = polygons(out)
        valid, (gaps, overlaps) = shapely.coverage_is_valid(shapes), misfits(shapes)
        print(f"| {way} | {seconds:.1f} | {len(shapes)} | {'yes' if valid else 'no'} | {gaps:.2%} | {overlaps:.2%} |")


def main() -> None:
    """Make the maps, run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--huge", type=int, default=0, help="also a map of this side, a repeated smaller one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = landscape(options.size)
        write(folder / "landscape.tif", labels)
        write(folder / "noisy.tif", noisy(labels))
        write(folder / "small.tif", labels[:2048, :2048])
        for way in ("theirs", "ours"):
            print(f"{way}: a valid coverage? {is_coverage(way, folder / 'noisy.tif', folder)}")
        for flags in (DEFAULTS, Flags(8, 0), Flags(0, 0)):
            for kind in ("landscape", "noisy"):
                compare(f"{kind}, {options.size}²", folder / f"{kind}.tif", folder, flags, options.workers)
        compare_simplified(folder / "small.tif", folder, options.workers)
        if options.huge:
            repeat(folder / "huge.vrt", folder / "landscape.tif", options.huge)
            seconds, _, memory = measure("ours", folder / "huge.vrt", folder / "huge.gpkg", DEFAULTS, options.workers)
            print(f"\n{options.huge}², the landscape repeated by a VRT: {seconds:.0f} s, {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
