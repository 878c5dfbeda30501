"""`co2s vectorize` against `rasterio.features.shapes` → GeoDataFrame → `to_file`: time, memory, and what fits together.

Each way runs in a process of its own, from the call to the closed file; its memory is the sum over that process and its
children, less what they take before the call, imports and idle workers included. Prints Markdown tables.

    python benchmarks/vectorize.py [--size 8192] [--huge 50000] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyogrio
import rasterio
import shapely
from rasterio.transform import from_origin
from scipy import ndimage

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


def ours(raster: str, out: str, simplify: float, workers: int) -> None:
    """Ours, without minimum area."""
    from co2s_cli.config.vectorize import Amount, VectorizeConfig
    from co2s_cli.jobs import vectorize

    settings = VectorizeConfig(
        raster=raster,
        out=Path(out),
        min_area=Amount(0, "px"),
        simplify=Amount(simplify, "px"),
        workers=workers,
        overwrite=True,
    )
    vectorize.run(settings)


def theirs(raster: str, out: str, simplify: float, _workers: int) -> None:
    """The usual way, with the same attributes."""
    import geopandas
    from rasterio import features
    from shapely.geometry import shape

    with rasterio.open(raster) as dataset:
        labels, transform = dataset.read(1), dataset.transform
    found = [(shape(geometry), int(value)) for geometry, value in features.shapes(labels, labels != 255, 4, transform)]
    frame = geopandas.GeoDataFrame(
        {"class_id": np.array([value for _, value in found], np.int32)}, geometry=[one for one, _ in found], crs=CRS
    )
    frame["class"] = "class " + frame.class_id.astype(str)
    if simplify:
        frame["geometry"] = frame.simplify(simplify * transform.a)
    frame["area_m2"], frame["perimeter_m"] = frame.area, frame.length
    frame.to_file(out)


def child(way: str, raster: str, out: str, simplify: float, workers: int) -> None:
    """Run one way; print what memory was taken before, then how long it took."""
    import geopandas  # noqa: F401 - before the clock starts
    import shapely.geometry  # noqa: F401

    from co2s_cli.jobs import vectorize  # noqa: F401

    logging.disable()
    print(_memory(psutil.Process()), _import_bytes(), flush=True)
    start = time.perf_counter()
    {"ours": ours, "theirs": theirs}[way](raster, out, simplify, workers)
    print(time.perf_counter() - start, flush=True)


def _import_bytes() -> int:
    """What the imports take in a process that works on blocks."""
    code = "import co2s_cli.geo.polygons.stream, psutil; print(psutil.Process().memory_info().rss)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def _memory(process: psutil.Process, child_bytes: int = 0) -> int:
    """Bytes of a process and its children, less `child_bytes` for each of these."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            used = one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        total += used if one.pid == process.pid else max(0, used - child_bytes)
    return total


def measure(way: str, raster: Path, out: Path, simplify: float, workers: int) -> tuple[float, float]:
    """Seconds, and megabytes above what the imports take."""
    command = [sys.executable, __file__, "--child", json.dumps([way, str(raster), str(out), simplify, workers])]
    out.unlink(missing_ok=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        before, each = map(int, running.stdout.readline().split())
        peak, process = 0, psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, _memory(process, each))
            time.sleep(0.02)
        seconds = float(running.stdout.read())
    return seconds, (peak - before) / 1e6


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
    measure(way, folder / "corner.tif", out, 0, 1)
    return bool(shapely.coverage_is_valid(polygons(out)))


def compare(name: str, raster: Path, folder: Path, workers: int) -> None:
    """Both ways on one map; each row is one run."""
    print(f"\n{name}\n")
    print("| way | seconds | memory above imports, MB | polygons | valid coverage |")
    print("|---|---|---|---|---|")
    figures = {}
    for way in ("theirs", "ours"):
        out = folder / f"{way}.gpkg"
        figures[way] = measure(way, raster, out, 0, workers)
        count, valid = pyogrio.read_info(out)["features"], is_coverage(way, raster, folder)
        print(f"| {way} | {figures[way][0]:.1f} | {figures[way][1]:.0f} | {count} | {'yes' if valid else 'no'} |")
    times, memory = (figures["theirs"][place] / figures["ours"][place] for place in (0, 1))
    print(f"\n{times:.1f} × as fast, memory ÷ {memory:.1f}", flush=True)


def compare_simplified(raster: Path, folder: Path, workers: int) -> None:
    """Both ways with borders simplified by 1.5 pixels."""
    print("\nSimplified by 1.5 px\n")
    print("| way | seconds | polygons | valid coverage | gaps | overlaps |")
    print("|---|---|---|---|---|---|")
    for way in ("theirs", "ours"):
        out = folder / f"{way}.gpkg"
        seconds, _ = measure(way, raster, out, 1.5, workers)
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
        compare(f"Landscape labels, {options.size}²", folder / "landscape.tif", folder, options.workers)
        compare(f"Noisy prediction, {options.size}²", folder / "noisy.tif", folder, options.workers)
        compare_simplified(folder / "small.tif", folder, options.workers)
        if options.huge:
            repeat(folder / "huge.vrt", folder / "landscape.tif", options.huge)
            seconds, memory = measure("ours", folder / "huge.vrt", folder / "huge.gpkg", 1.5, options.workers)
            print(f"\n{options.huge}², the landscape repeated by a VRT: {seconds:.0f} s, {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
