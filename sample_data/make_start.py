"""Makes the package's start: a student that knows made-up land of many sensors, to begin a training from.

    python sample_data/make_start.py [--begin MODEL] [--out FILE] [--cache FILE]

It begins with the DINO student of the pair that demo_model.sh trains first, in build/demo/pair.

Everything follows from the seeds in this file; another computer may round differently. Each step of training sees other
pieces of land, each with a legend and a set of bands of its own: the start learns ten covers of the land, and a legend
joins some of them to one class whose probability is their sum.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.data.landscape.coarse import COVERS, Region
from co2s_cli.data.landscape.sensor import MARGIN
from co2s_cli.data.landscape.spectrum import SPECTRUM
from co2s_cli.data.landscape.surface import Frame
from co2s_cli.models import catalog, weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.guided import GuidedStudent
from co2s_cli.models.manifest import Manifest
from co2s_cli.training.transfer import transfer

log = logging.getLogger("make_start")

LAND_SEEDS = range(1001, 1041)
LAND_SIDE = 2048
"""Side in points of 0.5 m of the land of each seed."""
TILES = {1: 3, 2: 2, 4: 1, 8: 1, 16: 1}
"""Tiles of each seed's land by the points along the side of a pixel."""
TILE_SIDE = 256

STEPS, RATE, COUNT, SIZE = 40, 2e-3, 4, 128
WARM_SHARE = 0.1

BAND_SETS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("blue", "green", "red"), 0.42),
    (("green", "red", "nir"), 0.10),
    (("blue", "green", "red", "nir"), 0.14),
    (("blue", "green", "red", "nir", "swir1", "swir2"), 0.10),
    (("blue", "green", "red", "nir", "swir1", "swir2", "thermal"), 0.10),
    (SPECTRUM, 0.06),
)
"""Bands of common sensors, and how often a batch has them; the rest of the time any bands are drawn."""

LEGENDS: tuple[str, ...] = (
    "building+road+pavement, grass+tree+green crop+ripe crop+soil+sand, water",
    "building+road+pavement, grass+tree+green crop+ripe crop, water",
    "tree, water, grass+green crop+ripe crop, soil+sand, building+road+pavement",
    "building, road, pavement, grass+tree+green crop+ripe crop, soil+sand, water",
    "building, road, pavement, grass, tree, green crop+ripe crop, soil+sand, water",
    "building+road+pavement, tree, grass, green crop+ripe crop, soil+sand, water",
    "tree, building+road+pavement+grass+green crop+ripe crop+soil+sand+water",
    "water, building+road+pavement+grass+tree+green crop+ripe crop+soil+sand",
    "building, road+pavement, grass+tree+green crop+ripe crop+soil+sand, water",
)
"""Legends in use; the rest of the time covers are joined at random."""

Legend = tuple[tuple[int, ...], ...]
"""Covers of each class, by their place in `COVERS`; a cover in none of them is not labelled."""


class Tile(NamedTuple):
    """A piece of land as a perfect sensor would see it."""

    factor: int
    """Points along the side of a pixel."""
    values: Tensor
    """Reflectance (8, h, w) in half precision."""
    shares: Tensor
    """255 × the share of each cover in each pixel (covers, h, w)."""


class Batch(NamedTuple):
    """What one step sees."""

    images: Tensor
    """(B, 8, h, w) in [0, 1]; a band that is absent has the mean that the student subtracts."""
    labels: Tensor
    """(B, h, w): classes of the batch's legend, 255 where nothing is labelled."""
    legend: Legend


def tiles_of(seed: int) -> list[Tile]:
    """Tiles of one seed's land at each of the resolutions."""
    rng = np.random.default_rng([seed, 9])
    row, col = (int(rng.integers(0, 20_000)) for _ in range(2))
    region = Region.of(seed, Frame(row, col, LAND_SIDE + 2 * MARGIN))
    tiles = []
    for factor, count in TILES.items():
        values, shares = region.pixels(factor), region.shares(factor)
        side = min(TILE_SIDE, values.shape[1])
        for _ in range(count):
            top, left = (int(rng.integers(0, values.shape[1] - side + 1)) for _ in range(2))
            cut = np.s_[:, top : top + side, left : left + side]
            tiles.append(
                Tile(factor, torch.tensor(values[cut]).half(), torch.tensor((shares[cut] * 255).astype(np.uint8)))
            )
    return tiles


def legend_of(text: str) -> Legend:
    """Read 'building+road, water'."""
    places = {name: place for place, name in enumerate(COVERS)}
    return tuple(tuple(places[member.strip()] for member in entry.split("+")) for entry in text.split(","))


def drawn_legend(rng: np.random.Generator) -> Legend:
    """One of `LEGENDS`, or covers joined at random to two to eight classes, now and then without one of the classes."""
    if rng.random() < 0.6:
        return legend_of(LEGENDS[rng.integers(len(LEGENDS))])
    count = int(rng.integers(2, 9))
    owner = rng.integers(count, size=len(COVERS))
    owner[rng.permutation(len(COVERS))[:count]] = np.arange(count)  # none is empty
    classes = tuple(tuple(np.flatnonzero(owner == number).tolist()) for number in range(count))
    return classes[:-1] if count > 2 and rng.random() < 0.3 else classes


def drawn_bands(rng: np.random.Generator) -> list[int]:
    """Places in `SPECTRUM` of the bands of a sensor."""
    draw = rng.random()
    for names, share in BAND_SETS:
        if draw < share:
            return [SPECTRUM.index(name) for name in names]
        draw -= share
    return sorted(rng.permutation(len(SPECTRUM))[: rng.integers(2, len(SPECTRUM))].tolist())


def batches(tiles: Sequence[Tile], *, count: int, size: int, mean: Tensor, seed: int) -> Iterator[Batch]:
    """Batches without end of `count` crops of `size` pixels; `mean` (8, 1, 1) is what the student subtracts."""
    rng = np.random.default_rng(seed)
    by_factor = {factor: [tile for tile in tiles if tile.factor == factor] for factor in TILES}
    while True:
        legend, bands = drawn_legend(rng), drawn_bands(rng)
        crops = []
        for _ in range(count):
            same = by_factor[int(rng.choice(list(TILES)))]
            crops.append(_crop(same[rng.integers(len(same))], legend, size, rng))
        images = torch.stack([image for image, _ in crops])
        share = torch.zeros_like(mean)
        share[bands] = len(SPECTRUM) / len(bands)  # as `transfer` scales the filters of fewer bands
        images = ((images - mean) * share + mean).contiguous(memory_format=torch.channels_last)
        yield Batch(images, torch.stack([labels for _, labels in crops]), legend)


def _crop(tile: Tile, legend: Legend, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A turned crop of a tile as a sensor sees it, and its labels."""
    whole = tile.values.shape[1]
    side = min(whole, int(size * rng.choice([0.5, 0.75, 1, 1, 1, 1.5])))
    top, left = (int(place) for place in rng.integers(whole - side + 1, size=2))
    values = tile.values[:, top : top + side, left : left + side].float()
    shares = tile.shares[:, top : top + side, left : left + side].float() / 255
    image, labels = sensed(values, shares, rng), labels_of(shares, legend, tile.factor, rng)
    if side != size:
        image = F.interpolate(image[None], size=(size, size), mode="bilinear", align_corners=False)[0]
        labels = F.interpolate(labels[None, None].float(), size=(size, size), mode="nearest")[0, 0].long()
    turns = int(rng.integers(4))
    image, labels = image.rot90(turns, (1, 2)), labels.rot90(turns, (0, 1))
    return (image.flip(2), labels.flip(1)) if rng.random() < 0.5 else (image, labels)


def labels_of(shares: Tensor, legend: Legend, factor: int, rng: np.random.Generator) -> Tensor:
    """Class (h, w) that covers most of each pixel, 255 where none covers half of it.

    Where pixels are coarse people draw regions: there the shares are often those of a pixel's surroundings.
    """
    sums = torch.stack([shares[list(members)].sum(0) for members in legend])
    if factor >= 4 and rng.random() < 0.6:
        reach = int(rng.choice([3, 5, 9]))
        sums = F.avg_pool2d(sums[None], reach, 1, reach // 2, count_include_pad=False)[0]
    most, labels = sums.max(0)
    labels[most < 0.5] = 255
    return labels


def sensed(values: Tensor, shares: Tensor, rng: np.random.Generator) -> Tensor:
    """The land (8, h, w) through one sensor on one day, each band scaled to [0, 1]."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.tensor(rng.uniform(low, high, shape or (1,)), dtype=torch.float32)

    spread = torch.tensor(rng.normal(0, 0.10, (len(SPECTRUM), len(COVERS))), dtype=torch.float32)
    spread += torch.tensor(rng.normal(0, 0.12, len(COVERS)), dtype=torch.float32)
    values = values * (1 + torch.einsum("bc,chw->bhw", spread, shares)).clamp(min=0.2)  # covers differ over the world
    values = values * uniform(0.85, 1.15, len(SPECTRUM), 1, 1) * math.exp(rng.normal(0, 0.15))
    haze = rng.exponential(0.02) * torch.tensor([1.6, 1.2, 0.9, 0.7, 0.4, 0.15, 0.1, 0.0])
    values = values + haze[:, None, None]
    if rng.random() < 0.4:
        values = F.avg_pool2d(values[None], 3, 1, 1, count_include_pad=False)[0]
    noise = torch.from_numpy(rng.standard_normal(values.shape, dtype=np.float32))
    values = values + noise * rng.exponential(0.004) * (0.5 + 3 * values)
    if rng.random() < 0.5:
        values = values.clamp(min=0) ** rng.uniform(0.5, 0.9)
    if rng.random() < 0.3:  # an image of 8 bits that does not use them all
        steps = 255 * rng.uniform(0.2, 0.9)
        values = (values / values.amax((1, 2), keepdim=True).clamp(min=1e-3) * steps).round()
    return _scaled(values, rng)


def _scaled(values: Tensor, rng: np.random.Generator) -> Tensor:
    """Bands in [0, 1] by limits that are those of a whole scene, of which the crop is a part."""
    sparse = values.flatten(1)[:, ::7]
    low, high = (torch.quantile(sparse, share, dim=1)[:, None, None] for share in (0.005, 0.995))
    span = (high - low).clamp(min=1e-3)
    below, above = span * rng.uniform(0, 0.6), span * rng.uniform(0, 0.8)
    scaled = ((values - low + below) / (span + below + above)).clamp(0, 1)
    return scaled * rng.uniform(0.25, 0.8) if rng.random() < 0.15 else scaled  # limits far above what is there


def dino_logits(student: GuidedStudent, batch: Batch) -> Tensor:
    """Logits (B, classes, h, w): the vector of a class is the mean of its covers'."""
    fine = F.normalize(student.guidance.vectors, dim=1)
    joined = torch.stack([fine[list(members)].mean(0) for members in batch.legend])
    logits = student.decoder(student.encode(batch.images), joined).float()
    return F.interpolate(logits, size=batch.images.shape[-2:], mode="bilinear", align_corners=False)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with mild weights for rare classes, in parts of that of a guess."""
    counts = torch.bincount(labels[labels < 255], minlength=logits.shape[1]).float()
    weight = torch.where(counts > 0, (counts.sum() / counts.clamp(min=1)) ** 0.35, 0.0)
    if not counts.sum():
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, weight / weight.max(), ignore_index=255) / math.log(logits.shape[1] + 1)


def train(student: GuidedStudent, tiles: Sequence[Tile]) -> None:
    """Train the filters of the bands that the pair does not know, and the vectors of the covers.

    All else stays as it is: trained on, the student gave less to real scenes of red, green and blue.
    """
    started = time.monotonic()
    student.to(memory_format=torch.channels_last).train()
    student.requires_grad_(False)
    filters = dict(student.named_parameters())[student.band_tensors()[0]]
    opened = [filters, student.guidance.vectors]
    for tensor in opened:
        tensor.requires_grad_(True)
    new = torch.tensor([name not in catalog.RGB for name in SPECTRUM]).float().view(1, -1, 1, 1)
    filters.register_hook(lambda gradient: gradient * new)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(opened, lr=RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_pace, steps=STEPS))
    stream = batches(tiles, count=COUNT, size=SIZE, mean=student.backbone.mean[0], seed=4)
    shown = 1.0
    for step in range(1, STEPS + 1):
        batch = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = dino_logits(student, batch)
        loss = loss_of(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        shown = 0.95 * shown + 0.05 * loss.item()
        if step % 10 == 0:
            log.info("step %d of %d, loss %.3f, %.0f s", step, STEPS, shown, time.monotonic() - started)


def _pace(step: int, steps: int) -> float:
    done = step / steps
    return min(done / WARM_SHARE, 0.5 * (1 + math.cos(math.pi * max(done - WARM_SHARE, 0) / (1 - WARM_SHARE)))) + 1e-3


def described() -> Manifest:
    """What the start says about itself."""
    colors = np.linspace(0, 255, len(COVERS)).astype(int).tolist()
    dino = catalog.for_bands(catalog.from_scratch(catalog.dino_student(catalog.TINY_DINO)), SPECTRUM)
    return Manifest(
        classes=tuple({"name": name, "color": [c, 128, 255 - c]} for name, c in zip(COVERS, colors, strict=True)),
        bands=SPECTRUM,
        scaling={"dtype": "float32", "low": [0.0] * len(SPECTRUM), "high": [1.0] * len(SPECTRUM)},  # type: ignore[arg-type]
        tile=256,
        ground_resolution=None,
        students={"dino": dino},
        trained_on="made-up land of many sensors at 0.5 to 8 m (a start for training, not a model to map with)",
        training={"method": "start", "steps": STEPS},
        licence="made up, no rights reserved",
    )


def new_start(begin: Path) -> Ensemble:
    """The start before it learns: the dino student begins with that of the model file `begin`."""
    torch.manual_seed(0)
    start = new_ensemble(described())
    log.info("%s", transfer(weights.load(begin), start))
    return start


def land(cache: Path | None, processes: int) -> list[Tile]:
    """All tiles, read from the file `cache` where there is one."""
    if cache and cache.exists():
        return [Tile(*tile) for tile in torch.load(cache)]
    with Pool(processes) as pool:
        tiles = [tile for some in pool.imap(tiles_of, LAND_SEEDS) for tile in some]
    if cache:
        torch.save([tuple(tile) for tile in tiles], cache)
    return tiles


def main() -> None:
    """Make the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--begin", type=Path, default=Path("build/demo/pair/best.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("co2s_cli/assets/start.safetensors"))
    parser.add_argument("--cache", type=Path, help="keep the land in this file, or read it from there")
    parser.add_argument("--processes", type=int, default=2, help="processes that make the land")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_flush_denormal(True)
    began = time.monotonic()
    tiles = land(chosen.cache, chosen.processes)
    log.info("%d tiles of land, %.0f s", len(tiles), time.monotonic() - began)
    start = new_start(chosen.begin)
    train(start.students["dino"], tiles)  # type: ignore[arg-type]
    weights.save(start, chosen.out, half=True)
    log.info("%s: %.1f MB, %.0f s in all", chosen.out, chosen.out.stat().st_size / 1e6, time.monotonic() - began)


if __name__ == "__main__":
    main()
