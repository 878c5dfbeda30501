"""Few labels: what a user would pick instead beside what `co2s train --preset small` makes of the same labels.

Rows: a random forest on the bands of a pixel; a U-Net (ResNet-18 from nothing, torch alone) on the same balanced
crops, without parts of others, with the same loss, rate, schedule and steps; the `local` student alone; the preset's
students from labels alone, with FixMatch, UniMatch and Co2S. Columns: the five folds of few-landsat (30 polygons, one
scene of 8 bands), the same with three points in each polygon for labels, a sixteenth and an eighth of the labels of
india-s2, made-up landscapes, and these with polygons inside things for labels, each with several seeds. What is
scored are places that no row has seen a label of, by the last model of a run; nothing is chosen on them.

    python benchmarks/few.py --shared ../shared/data --columns landsat india_1_8 --rows forest unet co2s

Each cell is written to `--folder`/cells.jsonl when it is done and is not computed again. Prints a table in Markdown.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import rasterio
import torch
import torch.nn.functional as F
import yaml
from methods import india, landscape
from rasterio.features import rasterize
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from co2s_cli.classes import IGNORE
from co2s_cli.config.train import TrainConfig, settings_of
from co2s_cli.data.dataset import Dataset
from co2s_cli.data.loader import BatchPlan, Loader
from co2s_cli.data.strong import BandNoise, rgb_places
from co2s_cli.inference.model import DTYPES, pick_precision
from co2s_cli.jobs import train
from co2s_cli.scoring.matrix import Confusion, confusion
from co2s_cli.scoring.validation import FUSED, area_probabilities
from co2s_cli.tiling import Window
from co2s_cli.training.losses import supervised
from co2s_cli.training.run import data_of, length_of
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.schedule import one_cycle
from co2s_cli.training.setup import sliding_of

ROWS = {
    "forest": "random forest on a pixel's bands",
    "unet": "U-Net, ResNet-18",
    "local": "`local` alone, labels alone",
    "supervised": "labels alone",
    "fixmatch": "FixMatch",
    "unimatch": "UniMatch",
    "co2s": "Co2S",
}
LANDSAT_CLASSES = ("forest", "water", "herbaceous", "barren", "urban")
FOLDS = range(5)
LANDSAT_COLUMNS = ("landsat", "landsat_points")
POINTS_A_POLYGON = 3
FOREST_PIXELS = 50_000
SMALLEST_THING = 30
"""Pixels of a made-up thing in which a polygon may be drawn."""
NEVER = 1_000_000
"""Steps between validations: there is one at the end in any case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One data.yaml to learn from, and how often it is scored."""

    column: str
    seed: int
    fold: int
    data: Path


@dataclass(frozen=True, slots=True)
class Cell:
    """What one row made of one case."""

    row: str
    column: str
    seed: int
    fold: int
    matrix: list[list[int]]
    """Confusion of the fused map."""
    students: dict[str, float]
    """mIoU by student, in percent; empty where one alone makes the map."""
    wall: float
    processor: float
    settings: list[str]


class UNet(nn.Module):
    """Encoder as ResNet-18 (He et al., 2015) without its first pooling, decoder as U-Net (Ronneberger et al., 2015)."""

    patch = 16

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        widths = (64, 64, 128, 256, 512)
        self.stem = nn.Sequential(_conv(bands, 64, 7, 2), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(
            nn.Sequential(_Residual(before, width, 1 if index == 0 else 2), _Residual(width, width, 1))
            for index, (before, width) in enumerate(pairwise(widths))
        )
        self.ups = nn.ModuleList(
            nn.Sequential(_conv(low + high, out), nn.ReLU(inplace=True), _conv(out, out), nn.ReLU(inplace=True))
            for low, high, out in ((512, 256, 256), (256, 128, 128), (128, 64, 64))
        )
        self.head = nn.Conv2d(64, classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        height, width = images.shape[-2:]
        value = self.stem(F.pad(images, (0, -width % self.patch, 0, -height % self.patch), mode="replicate"))
        skips = []
        for stage in self.stages:
            value = stage(value)
            skips.append(value)
        for up, skip in zip(self.ups, skips[-2::-1], strict=True):
            value = up(torch.cat([F.interpolate(value, size=skip.shape[-2:], mode="nearest"), skip], dim=1))
        logits = F.interpolate(self.head(value), scale_factor=2, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


class _Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv(before, width, 3, stride), _conv(width, width)
        same = before == width and stride == 1
        self.skip: nn.Module = nn.Identity() if same else _conv(before, width, 1, stride)

    def forward(self, value: Tensor) -> Tensor:
        return F.relu(self.skip(value) + self.second(F.relu(self.first(value))))


def _conv(before: int, width: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, side, stride=stride, padding=side // 2, bias=False), nn.BatchNorm2d(width)
    )


def _loader(settings: TrainConfig, data: Dataset) -> Loader:
    """The labelled crops that the preset's students see, in the same order."""
    noise = BandNoise(settings.labeled_gain, settings.labeled_offset, settings.labeled_noise)
    plan = BatchPlan(
        seed=settings.seed, batch=settings.batch, crop=settings.crop, views=0, labeled_bands=noise,
        rgb=rgb_places(data.bands),
    )  # fmt: skip
    return Loader(data.labeled, None, plan, threads=1)


def landsat(folder: Path, source: Path, *, points: bool) -> list[Path]:
    """A data.yaml for each fold: polygons of the other folds train, its own are scored, on a copy of the scene.

    The copy, because pixels that validate on the same file would be kept from training as unlabelled ones too.
    `points`: of each polygon that trains only `POINTS_A_POLYGON` pixels are labelled.
    """
    folder = folder / ("points" if points else "polygons")
    folder.mkdir(exist_ok=True)
    polygons = geopandas.read_file(source / "polygons.gpkg")
    shutil.copyfile(source / "scene.tif", folder / "copy.tif")
    with rasterio.open(source / "scene.tif") as scene:
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": IGNORE, "crs": scene.crs}
        profile |= {"height": scene.height, "width": scene.width, "transform": scene.transform}
        numbered = [(shape, index + 1) for index, shape in enumerate(polygons.geometry)]
        owner = rasterize(numbered, out_shape=scene.shape, transform=scene.transform)
    truth = np.array([IGNORE, *(LANDSAT_CLASSES.index(name) for name in polygons["class"])], np.uint8)[owner]
    fold_of = np.array([-1, *polygons["fold"]])[owner]
    kept = np.zeros(truth.shape, bool)
    rng = np.random.default_rng(0)
    for number in range(1, len(polygons) + 1):
        places = np.flatnonzero(owner == number)
        kept.flat[rng.permutation(places)[:POINTS_A_POLYGON] if points else places] = True
    made = []
    for fold in FOLDS:
        for name, mask in (("train", (fold_of != fold) & kept), ("test", fold_of == fold)):
            with rasterio.open(folder / f"{name}{fold}.tif", "w", **profile) as labels:
                labels.write(np.where(mask, truth, IGNORE), 1)
        made.append(folder / f"landsat{fold}.yaml")
        made[-1].write_text(
            f"classes: [{', '.join(LANDSAT_CLASSES)}]\n"
            f"labeled: [{{image: {(source / 'scene.tif').resolve()}, labels: train{fold}.tif}}]\n"
            f"unlabeled: [{(source / 'scene.tif').resolve()}]\n"
            f"val: [{{image: copy.tif, labels: test{fold}.tif}}]\n"
        )
    return made


def inside(folder: Path, seed: int) -> Path:
    """The made-up landscape, of which parts of single things are labelled, as polygons drawn inside things are.

    At most six of each class and scene, which end a pixel before the border of what they lie in.
    """
    content = yaml.safe_load(landscape(folder, 1024)[""].read_text())
    rng = np.random.default_rng(seed)
    for entry in content["labeled"]:
        with rasterio.open((folder / entry["labels"]).with_name("labels.tif")) as source:
            truth, profile = source.read(1), source.profile
        labels = np.full_like(truth, IGNORE)
        for class_id in np.unique(truth[truth != IGNORE]):
            things, count = ndimage.label(ndimage.binary_erosion(truth == class_id))
            sizes = np.bincount(things.ravel())
            large = [thing for thing in range(1, count + 1) if sizes[thing] >= SMALLEST_THING]
            rng.shuffle(large)
            for thing in large[:6]:
                rows, cols = np.nonzero(things == thing)
                centre, reach = rng.integers(len(rows)), int(rng.integers(6, 16))
                near = (abs(rows - rows[centre]) <= reach) & (abs(cols - cols[centre]) <= reach)
                labels[rows[near], cols[near]] = class_id
        entry["labels"] = str(Path(entry["image"]).with_name(f"inside{seed}.tif"))
        with rasterio.open(folder / entry["labels"], "w", **{**profile, "nodata": IGNORE}) as made:
            made.write(labels, 1)
    path = folder / f"inside{seed}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def cases(columns: Sequence[str], folder: Path, shared: Path, seeds: list[int]) -> Iterator[Case]:
    """Everything that is learnt from, seeds outside, so that a run cut short still compares like with like."""
    made: dict[str, list[list[Path]]] = {}
    for column in columns:
        if column in LANDSAT_COLUMNS:
            folds = landsat(folder, shared / "few-landsat", points=column == "landsat_points")
            made[column] = [folds] * len(seeds)
        elif column == "inside":
            made[column] = [[inside(folder, seed)] for seed in seeds]
        elif column == "landscape":
            whole = landscape(folder, 1024)[""]
            made[column] = [[whole]] * len(seeds)
        else:
            split = india(folder, shared / "india-s2", column.removeprefix("india_"), seeds)
            made[column] = [[split[seed]] for seed in seeds]
    for place, seed in enumerate(seeds):
        for column in columns:
            for fold, data in enumerate(made[column][place]):
                yield Case(column, seed, fold, data)


def settings_for(row: str, case: Case, extra: list[str], out: Path) -> TrainConfig:
    """The small preset as it ships; labels are validated once, at the end, for the score."""
    flags = {"data": str(case.data), "preset": "small", "seed": case.seed, "out": out, "overwrite": True}
    method = "supervised" if row in ("local", "forest", "unet") else row
    chosen = {"local": ["students=local"], "unimatch": ["single_view=false"]}.get(row, [])  # of one view: FixMatch
    settings = settings_of(None, {**flags, "method": method}, [*chosen, *extra])
    return settings.model_copy(update={"val_every": NEVER})


def forest(settings: TrainConfig) -> tuple[Confusion, dict[str, float]]:
    """A forest of 200 trees on the scaled bands of the labelled pixels."""
    data = data_of(settings, with_unlabeled=False)
    features, labels = [], []
    for source in data.labeled.sources:
        whole = Window(0, 0, source.scene.height, source.scene.width)
        with source.scene.reader() as reader, source.labels.reader() as truth:
            pixels, values = data.applied_scaling.apply(reader.read(whole).pixels), truth.read(whole)
        features.append(pixels[:, values != IGNORE].T)
        labels.append(values[values != IGNORE])
    drawn = np.random.default_rng(settings.seed).permutation(sum(map(len, labels)))[:FOREST_PIXELS]
    model = RandomForestClassifier(200, random_state=settings.seed)
    model.fit(np.concatenate(features)[drawn], np.concatenate(labels)[drawn])
    total = np.zeros((len(data.classes.names),) * 2, np.int64)
    for area in data.val:
        with area.scene.reader() as reader, area.labels.reader() as truth:
            pixels, values = data.applied_scaling.apply(reader.read(area.window).pixels), truth.read(area.window)
        seen = values != IGNORE
        found = np.full(values.shape, IGNORE, np.uint8)
        if seen.any():
            found[seen] = model.predict(pixels[:, seen].T)
        total = total + confusion(values, found, len(data.classes.names))
    return total, {}


def unet(settings: TrainConfig) -> tuple[Confusion, dict[str, float]]:
    """A U-Net on the batches of the preset: labels alone, one cycle, as many steps."""
    data = data_of(settings, with_unlabeled=False)
    torch.manual_seed(settings.seed)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in data.statistics())
    net = UNet(len(data.bands), len(data.classes.names)).to(memory_format=torch.channels_last)
    steps = length_of(settings, data, Runtime(torch.device("cpu")))
    precision = DTYPES[pick_precision(settings.precision, torch.device("cpu"))]
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    for step, batch in enumerate(_loader(settings, data).batches(0, steps)):
        views = batch.to(torch.device("cpu"))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * one_cycle(step, steps)
        images = ((views.images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = net(images)
        loss = supervised(logits, views.labels.long(), balance=settings.labeled_balance).value
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), settings.clip_norm)
        optimizer.step()
    net.eval()
    model = SimpleNamespace(students={FUSED: lambda images: net((images - mean) / std).softmax(dim=1)})
    total = np.zeros((len(data.classes.names),) * 2, np.int64)
    for area in data.val:
        said = area_probabilities(
            model, area, data.applied_scaling, sliding_of(settings), device=torch.device("cpu"), dtype=torch.float32
        )  # type: ignore[arg-type]
        with area.labels.reader() as truth:
            values = truth.read(area.window)
        total = total + confusion(values, said[FUSED].argmax(dim=0).numpy().astype(np.uint8), len(data.classes.names))
    return total, {}


def ours(settings: TrainConfig) -> tuple[Confusion, dict[str, float]]:
    """What `co2s train` reports of its last model."""
    assert settings.out is not None
    train.run(settings)
    told = json.loads((settings.out / "report.json").read_text())
    students = {name: 100 * figures["miou"] for name, figures in told["validation"].items() if name != FUSED}
    return np.array(told["confusion"]), students


def run_cell(row: str, case: Case, extra: list[str], folder: Path) -> Cell:
    """Learn, score, measure the time; the model of the run is not kept."""
    out = folder / "run"
    settings = settings_for(row, case, extra, out)
    wall, processor = time.perf_counter(), time.process_time()
    matrix, students = {"forest": forest, "unet": unet}.get(row, ours)(settings)
    cell = Cell(
        row, case.column, case.seed, case.fold, matrix.tolist(), students,
        time.perf_counter() - wall, time.process_time() - processor, extra,
    )  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    return cell


def miou(matrices: Sequence[list[list[int]]]) -> float:
    """Mean IoU over the classes of the truth, of the sum of the matrices, in percent."""
    total = np.sum(np.array(matrices), axis=0)
    hits, truth = np.diag(total), total.sum(axis=1)
    union = truth + total.sum(axis=0) - hits
    return 100 * float(np.mean((hits / np.maximum(union, 1))[truth > 0]))


def scores(cells: Sequence[Cell], row: str, column: str) -> dict[int, float]:
    """MIoU by seed; the folds of a seed are counted together."""
    found: dict[int, float] = {}
    for seed in sorted({cell.seed for cell in cells if (cell.row, cell.column) == (row, column)}):
        folds = [cell for cell in cells if (cell.row, cell.column, cell.seed) == (row, column, seed)]
        if column in LANDSAT_COLUMNS and len(folds) < len(FOLDS):
            continue
        found[seed] = miou([cell.matrix for cell in folds])
    return found


def table(cells: Sequence[Cell], columns: Sequence[str]) -> str:
    """One line a row: by column each seed's fused mIoU, their mean, and the processor time of one training."""
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row, title in ROWS.items():
        told = []
        for column in columns:
            values = list(scores(cells, row, column).values())
            times = [cell.processor for cell in cells if (cell.row, cell.column) == (row, column)]
            if not values:
                told.append("–")
                continue
            each = " ".join(f"{value:.1f}" for value in values)
            told.append(f"**{statistics.mean(values):.1f}** ({each}), {statistics.mean(times):.0f} s")
        lines.append(f"| {title} | {' | '.join(told)} |")
    return "\n".join(lines)


def verdicts(cells: Sequence[Cell]) -> str:
    """What the table is to show, by the columns of india-s2, with standard errors of paired differences."""
    sixths = ("india_1_16", "india_1_8")
    lines = []
    for better, worse in (("co2s", "unet"), ("co2s", "fixmatch"), ("fixmatch", "supervised"), ("co2s", "supervised")):
        pairs = [(scores(cells, better, column), scores(cells, worse, column)) for column in sixths]
        gains = [one[seed] - other[seed] for one, other in pairs for seed in one.keys() & other.keys()]
        if len(gains) > 1:
            error = statistics.stdev(gains) / len(gains) ** 0.5
            lines.append(
                f"- {better} - {worse}: {statistics.mean(gains):+.1f} ± {error:.1f} over {len(gains)} cells, "
                f"lowest {min(gains):+.1f}"
            )
    gaps = [
        (miou([cell.matrix]) - max(cell.students.values()), cell.row, cell.column, cell.seed)
        for cell in cells
        if cell.students
    ]
    if gaps:
        gap, row, column, seed = min(gaps)
        lines.append(f"- fused - better student: lowest {gap:+.1f} ({row}, {column}, seed {seed})")
    return "\n".join(lines)


def main() -> None:
    """Fill the cells that are missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared/data"), help="folder of the real labelled imagery"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/few"), help="where scenes, runs and cells go")
    columns = [*LANDSAT_COLUMNS, "india_1_16", "india_1_8", "landscape", "inside"]
    parser.add_argument("--columns", nargs="+", choices=columns, default=columns)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", dest="extra", nargs="*", default=[], help="settings of every run")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / "cells.jsonl"
    cells = [Cell(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    for case in cases(given.columns, given.folder, given.shared, given.seeds):
        for row in given.rows:
            key = (row, case.column, case.seed, case.fold, given.extra)
            if any((cell.row, cell.column, cell.seed, cell.fold, cell.settings) == key for cell in cells):
                continue
            cells.append(run_cell(row, case, given.extra, given.folder))
            with path.open("a") as file:
                file.write(json.dumps(asdict(cells[-1])) + "\n")
            made = cells[-1]
            print(
                f"{row}, {case.column}, seed {case.seed}, fold {case.fold}: {miou([made.matrix]):.1f} {made.students}, "
                f"{made.processor:.0f} s of processor, {made.wall:.0f} s",
                file=sys.stderr,
            )
    cells = [cell for cell in cells if cell.settings == given.extra]
    print(table(cells, given.columns), verdicts(cells), sep="\n\n")


if __name__ == "__main__":
    main()
