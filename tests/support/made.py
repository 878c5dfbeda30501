"""Scenes in memory and tiny models whose answers are known."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch

from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.inference.products import LandCover
from co2s_cli.inference.runner import Lattice, Runner
from co2s_cli.tiling import TilePlan, Window


@dataclass(frozen=True)
class Ranges:
    low: tuple = (0.0, 0.0, 0.0)
    gain: tuple = (1 / 255,) * 3
    shift: tuple = (0.0,) * 3
    clamp: bool = True


@dataclass(frozen=True)
class Patch:
    pixels: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class ArrayScene:
    """Pixels (bands, h, w) and validity (h, w); readers repeat the last pixel beyond the edge."""

    pixels: np.ndarray
    valid: np.ndarray

    @contextlib.contextmanager
    def reader(self):
        yield self

    def read(self, window: Window) -> Patch:
        height, width = self.valid.shape
        rows, cols = np.arange(window.row, window.bottom), np.arange(window.col, window.right)
        inside = (rows < height)[:, None] & (cols < width)
        at = np.ix_(rows.clip(0, height - 1), cols.clip(0, width - 1))
        return Patch(self.pixels[:, at[0], at[1]], self.valid[at] & inside)


def random_scene(height, width, *, seed=0, holes=False, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, height, width)).astype(dtype)
    valid = rng.random((height, width)) > 0.3 if holes else np.ones((height, width), bool)
    return ArrayScene(pixels, valid)


def constant(images):
    """Every class alike, everywhere."""
    batch, _, height, width = images.shape
    return {"clip": torch.full((batch, 4, height, width), 0.25)}


_MIX = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)) * 4


def pointwise(images):
    """Two students that see one pixel at a time."""
    maps = [torch.einsum("nc,bchw->bnhw", mix, images).softmax(1) for mix in _MIX]
    return {"clip": maps[0], "dino": maps[1]}


def positional(images):
    """Two students whose answer depends on the place in the window and on the neighbours."""
    ramp = torch.linspace(0, 3, images.shape[-1]) + torch.linspace(0, 2, images.shape[-2])[:, None]
    return pointwise(images.roll((1, 2), (-2, -1)) * 0.7 + 0.1 * ramp.sin() + images.mean((-2, -1), keepdim=True) * 0.2)


def landcover(**settings):
    return LandCover(**{"classes": 4, "fusion": "mean", **settings})


def engine(members, product, *, batch=1, **settings):
    return InferenceEngine(
        members,
        product,
        scaling=settings.pop("scaling", Ranges()),
        device=torch.device("cpu"),
        precision=settings.pop("precision", "fp32"),
        batch=batch,
        **settings,
    )


def lattice(scene, *, tile, overlap):
    plan = TilePlan.of(*scene.valid.shape, tile=tile, overlap=overlap)
    return Lattice(plan, np.ones((len(plan.rows), len(plan.cols)), bool))


def runner(scene, members, product, *, tile, overlap, lanes=1, threads=1, batch=1, may_be_valid=None):
    grid = lattice(scene, tile=tile, overlap=overlap)
    grid = grid if may_be_valid is None else Lattice(grid.plan, may_be_valid)
    return Runner(grid, engine(members, product, batch=batch), scene.reader, lanes=lanes, threads=threads)


def whole(run, area):
    """Values (depth, h, w), NaN where a strip had no valid pixel, and validity, of an area."""
    values, valid = [], []
    row = area.row
    for strip in run.strips(area):
        assert strip.row == row
        row += len(strip.valid)
        valid.append(strip.valid)
        blank = torch.full((run._engine.product.depth, *strip.valid.shape), float("nan"))
        values.append(blank if strip.blended is None else strip.blended.clone())
    assert row == area.bottom
    return torch.cat(values, 1).numpy(), np.concatenate(valid)


def untiled(scene, members, product):
    with torch.inference_mode():
        return product.values(members(torch.from_numpy(scene.pixels[None]).float() / 255))[0].numpy()
