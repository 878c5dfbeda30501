"""Suggested places beside random ones: what the same number of labelled pixels teaches.

A user begins with a few plots, and three times labels 20 more places of 32 × 32 pixels pixel by pixel: those that
`co2s suggest` names for the model of the round before, or random ones. After each round a model is trained from the
start on all labels so far, equally long in both. `landscape`: places lie in the left half of a made-up scene, another
one for each seed; the right half is scored. `india`: places lie in sixteen training scenes of india-s2 put side by side
(a fourth of its labels, by its own splits); the test scenes are scored. Only places whose every pixel has a true class
are offered, to both, so that each round adds exactly as many labels.

    python benchmarks/suggest.py --shared ../shared/data --columns landscape india

Each cell is written to `--folder`/cells.jsonl when it is done and is not computed again. Prints a table in Markdown.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
import yaml
from methods import india
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.config.sample import SampleConfig
from co2s_cli.config.suggest import SuggestConfig
from co2s_cli.config.train import settings_of
from co2s_cli.data.landscape.annotator import Survey
from co2s_cli.jobs import sample, suggest, train
from co2s_cli.scoring.matrix import Scores, labelled_classes
from co2s_cli.tiling import Window

SIDE, COUNT, ROUNDS = 32, 20, 3
BEGIN = 6
"""Plots that the first model learns from."""
START, SUGGESTED, RANDOM = "start", "suggest", "random"
CHIP = Window(0, 0, 256, 384)
"""What is taken of each scene of india-s2."""
LANDSCAPE_SIZE = 1024
TILE = 128
"""Windows of suggestions and of the score."""
LEAN = ("method=supervised", "steps=60", "crop=64", "workers=1", f"eval_tile={TILE}", "eval_overlap=0")
"""Settings that differ from those of the small preset: what makes a cell take seconds."""
NEVER = 1_000_000
"""Steps between validations: there is one at the end in any case."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model: what it was trained on, and how right it is."""

    column: str
    seed: int
    arm: str
    round: int
    places: list[list[int]]
    """First row and column of the places that this round added."""
    matrix: list[list[int]]
    """Confusion of the fused map."""
    wall: float
    processor: float
    settings: list[str]

    @property
    def miou(self) -> float:
        """In percent, over the classes of the truth."""
        matrix = np.array(self.matrix)
        return 100 * Scores.of(matrix, labelled_classes(matrix)).miou


@dataclass(frozen=True)
class Case:
    """A scene to draw in, whose true classes the annotator knows, and what is scored."""

    column: str
    seed: int
    folder: Path
    content: dict[str, object]
    """data.yaml, but for what is labelled."""

    @cached_property
    def truth(self) -> NDArray[np.uint8]:
        """True classes, IGNORE where nothing may be drawn."""
        with rasterio.open(self.folder / "truth.tif") as raster:
            return raster.read(1)

    def begun(self) -> list[Window]:
        """Plots of the annotator, in any order but that each new one shows as many new classes as can be."""
        survey = Survey(self.seed, max(self.truth.shape))
        everything = survey.plots(Window(0, 0, *self.truth.shape), self.truth)
        plots = [plot for plot in everything if (plot.labels != IGNORE).mean() > 0.5]
        shown = [set(np.unique(plot.labels).tolist()) - {IGNORE} for plot in plots]
        order, seen, chosen = np.random.default_rng(self.seed).permutation(len(plots)).tolist(), set(), []
        while len(chosen) < BEGIN:
            chosen.append(max((i for i in order if i not in chosen), key=lambda i: len(shown[i] - seen)))
            seen |= shown[chosen[-1]]
        return [plots[i].window for i in chosen]

    def labelled(self, places: Sequence[Window]) -> NDArray[np.uint8]:
        """The truth in some places, IGNORE elsewhere."""
        labels = np.full_like(self.truth, IGNORE)
        for place in places:
            labels[place.slices] = self.truth[place.slices]
        return labels

    def write(self, name: str, values: NDArray[np.uint8]) -> Path:
        """A raster on the scene's grid."""
        with rasterio.open(self.folder / "scene.tif") as scene:
            profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": scene.crs, "transform": scene.transform}
        with rasterio.open(self.folder / name, "w", **profile, height=len(values), width=values.shape[1]) as raster:
            raster.write(values, 1)
        return self.folder / name


def landscape_case(folder: Path, seed: int) -> Case:
    """The left half of a made-up scene to draw in, the right half to be scored."""
    sample.run(SampleConfig(folder=folder, size=LANDSCAPE_SIZE, seed=21 + seed, overwrite=True))
    with rasterio.open(folder / "labels.tif") as raster:
        truth, middle = raster.read(1), LANDSCAPE_SIZE // 2
    content = yaml.safe_load((folder / "data.yaml").read_text())
    kept = {key: content[key] for key in ("classes", "bands", "scaling") if key in content}
    scored = {"image": "scene.tif", "labels": "labels.tif", "windows": [[0, middle, LANDSCAPE_SIZE, middle]]}
    case = Case("landscape", seed, folder, {**kept, "val": [scored]})
    truth[:, middle:] = IGNORE
    case.write("truth.tif", truth)
    return case


def india_case(folder: Path, source: Path, seed: int) -> Case:
    """Training scenes side by side, two in a row, to draw in; the test scenes to be scored."""
    content = yaml.safe_load(india(folder, source, "1_4", [seed])[seed].read_text())
    chips = sorted((source / "splits" / f"train_1_4_seed{seed}.txt").read_text().split())
    pixels = np.zeros((3, CHIP.height * len(chips) // 2, 2 * CHIP.width), np.uint8)
    truth = np.full(pixels.shape[1:], IGNORE, np.uint8)
    for index, name in enumerate(chips):
        top, left = index // 2 * CHIP.height, index % 2 * CHIP.width
        part, known = _chip(source, name)
        pixels[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        truth[top : top + known.shape[0], left : left + known.shape[1]] = known
    _write(folder / "scene.tif", pixels)
    for name in (source / "splits" / "test.txt").read_text().split():
        part, known = _chip(source, name)
        _write(folder / "test" / f"{name}.tif", part)
        _write(folder / "test_labels" / f"{name}.tif", known[None])
    val = [{"image": "test", "labels": "test_labels"}]
    case = Case("india", seed, folder, {"classes": content["classes"], "scaling": content["scaling"], "val": val})
    case.write("truth.tif", truth)
    return case


def _chip(source: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (bands, h, w) and classes of a scene of india-s2, no more than `CHIP` of it."""
    with rasterio.open(next((source / "images").glob(f"{name}.*"))) as image:
        part = image.read()[:, *CHIP.slices]
    with rasterio.open(source / "labels" / f"{name}.png") as labels:
        return part, labels.read(1)[CHIP.slices]


def _write(path: Path, values: NDArray[np.uint8]) -> None:
    """A raster of bytes without a place."""
    path.parent.mkdir(exist_ok=True)
    bands, height, width = values.shape
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=bands, height=height, width=width) as raster:
        raster.write(values)


def drawn_at_random(case: Case, taken: NDArray[np.bool_], round_number: int) -> list[Window]:
    """Places of the lattice that are free, each as likely as any other."""
    rows, cols = taken.shape[0] // SIDE, taken.shape[1] // SIDE
    blocks = taken[: rows * SIDE, : cols * SIDE].reshape(rows, SIDE, cols, SIDE)
    free = np.argwhere(~blocks.any(axis=(1, 3))) * SIDE
    drawn = np.random.default_rng((case.seed, round_number)).permutation(free)[:COUNT]
    return [Window(row, col, SIDE, SIDE) for row, col in drawn.tolist()]


def suggested(case: Case, taken: NDArray[np.bool_], model: Path) -> list[Window]:
    """What `co2s suggest` names."""
    marked, out = case.write("taken.tif", taken.astype(np.uint8)), case.folder / "next.gpkg"
    settings = SuggestConfig(
        scene=str(case.folder / "scene.tif"), model=model, out=out, labels=marked, values={0: None}, count=COUNT,
        size=f"{SIDE}px", overwrite=True, device="cpu", tile=TILE,
    )  # fmt: skip
    return [Window(place.row, place.col, SIDE, SIDE) for place in suggest.run(settings).places]


def learnt(case: Case, places: Sequence[Window], extra: Sequence[str], out: Path) -> list[list[int]]:
    """The confusion of a model of the small preset that was trained on the labels of some places."""
    case.write("labelled.tif", case.labelled(places))
    content = {**case.content, "labeled": [{"image": "scene.tif", "labels": "labelled.tif"}]}
    (case.folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    flags = {"data": str(case.folder / "data.yaml"), "preset": "small", "seed": case.seed, "out": out}
    settings = settings_of(None, {**flags, "overwrite": True}, [*LEAN, *extra])
    train.run(settings.model_copy(update={"val_every": NEVER}))
    matrix: list[list[int]] = json.loads((out / "report.json").read_text())["confusion"]
    return matrix


def fill(case: Case, cells: list[Cell], extra: list[str], path: Path) -> None:
    """Add the cells of a case that are missing, one by one."""

    def known(arm: str, number: int) -> Cell | None:
        key = (case.column, case.seed, arm, number, extra)
        return next((c for c in cells if (c.column, c.seed, c.arm, c.round, c.settings) == key), None)

    for arm in (START, SUGGESTED, RANDOM):
        places = case.begun()
        for number in range(ROUNDS + 1) if arm != START else (0,):
            name, out = (START, number) if number == 0 else (arm, number), case.folder / f"{arm}{number}"
            cell = known(*name)
            if cell is None:
                before = case.folder / (f"{arm}{number - 1}" if number > 1 else f"{START}0") / "last.safetensors"
                wall, processor = time.perf_counter(), time.process_time()
                taken = (case.labelled(places) != IGNORE) | (case.truth == IGNORE)
                new = (
                    [] if number == 0
                    else suggested(case, taken, before) if arm == SUGGESTED
                    else drawn_at_random(case, taken, number)
                )  # fmt: skip
                matrix = learnt(case, [*places, *new], extra, out)
                cell = Cell(
                    case.column, case.seed, *name, [[place.row, place.col] for place in new], matrix,
                    time.perf_counter() - wall, time.process_time() - processor, extra,
                )  # fmt: skip
                cells.append(cell)
                with path.open("a") as file:
                    file.write(json.dumps(asdict(cell)) + "\n")
                print(
                    f"{case.column}, seed {case.seed}, {cell.arm} {number}: {cell.miou:.1f}, "
                    f"{cell.processor:.0f} s of processor, {cell.wall:.0f} s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            places += [Window(row, col, SIDE, SIDE) for row, col in cell.places]


def table(cells: Sequence[Cell], columns: Sequence[str]) -> str:
    """MIoU by round and arm, then what suggestions gain, with standard errors over the seeds."""
    lines = [f"| | start | {' | '.join(f'round {n}' for n in range(1, ROUNDS + 1))} |", f"|---|{'---|' * (ROUNDS + 1)}"]
    gains: list[float] = []
    for column in columns:
        found = {(c.arm, c.round, c.seed): c.miou for c in cells if c.column == column}
        begun = [value for (arm, _, _), value in sorted(found.items()) if arm == START]
        for arm in (SUGGESTED, RANDOM):
            rounds = [[v for (a, n, _), v in sorted(found.items()) if (a, n) == (arm, r)] for r in range(1, ROUNDS + 1)]
            told = [_told(values) for values in (begun, *rounds)]
            lines.append(f"| {column}, {arm} | {' | '.join(told)} |")
        whole = [
            s for s in sorted({s for _, _, s in found}) if all((RANDOM, n, s) in found for n in range(1, ROUNDS + 1))
        ]
        by_round = [[found[SUGGESTED, n, s] - found[RANDOM, n, s] for s in whole] for n in range(1, ROUNDS + 1)]
        lines.append(f"| {column}, gain | | {' | '.join(_told(values, '+') for values in by_round)} |")
        own = [statistics.mean(values) for values in zip(*by_round, strict=True)]
        gains += own
        lines.append(f"| {column}, gain, mean of the rounds | {_told(own, '+')} {'| ' * (ROUNDS + 1)}".rstrip())
    return "\n".join(lines) + f"\n\nGain, all seeds of all columns: {_told(gains, '+')}"


def _told(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard error (each)."""
    if not values:
        return "–"
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{error} ({', '.join(f'{value:{sign}.1f}' for value in values)})"


def main() -> None:
    """Fill the cells that are missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="folder of the real imagery")
    parser.add_argument("--folder", type=Path, default=Path("build/suggest"), help="where scenes, runs and cells go")
    parser.add_argument("--columns", nargs="+", choices=["landscape", "india"], default=["landscape", "india"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", dest="extra", nargs="*", default=[], help="settings of every run")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / "cells.jsonl"
    cells = [Cell(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in given.seeds:  # seeds outside, so that a run cut short still compares like with like
        for column in given.columns:
            folder = given.folder / f"{column}{seed}"
            folder.mkdir(exist_ok=True)
            source = (given.shared / "india-s2").resolve()
            case = landscape_case(folder, seed) if column == "landscape" else india_case(folder, source, seed)
            fill(case, cells, given.extra, path)
    print(table([cell for cell in cells if cell.settings == given.extra], given.columns))


if __name__ == "__main__":
    main()
