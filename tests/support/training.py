"""A small landscape with a few labels, and the settings of a run that takes seconds."""

from pathlib import Path

import numpy as np
import torch
import yaml
from support.rasters import write_raster

from co2s_cli.classes import IGNORE
from co2s_cli.config import distill
from co2s_cli.config.train import TrainConfig, settings_of
from co2s_cli.data.batch import Batch
from co2s_cli.data.landscape import CLASSES, Landscape
from co2s_cli.tiling import Window

SIZE = 256
VAL = [160, 160, 96, 96]
QUICK = ("crop=64", "batch=2", "precision=fp32", "workers=1", "init=none")
"""A pair drawn afresh: the packaged start holds other students."""


def landscape(folder: Path, **changes: object) -> Path:
    """A scene, labels of a part of it, and the data.yaml; `changes` replace keys of the latter (None drops one)."""
    pixels, truth = Landscape(seed=3, size=SIZE).block(Window(0, 0, SIZE, SIZE))
    few = np.full_like(truth, IGNORE)
    for row in range(0, 160, 40):
        few[row : row + 24, row : row + 24] = truth[row : row + 24, row : row + 24]
    few[100:130, 10:40] = truth[100:130, 10:40]
    write_raster(folder / "scene.tif", pixels)
    write_raster(folder / "few.tif", few)
    write_raster(folder / "labels.tif", truth)
    content = {
        "classes": CLASSES.plain(),
        "labeled": [{"image": "scene.tif", "labels": "few.tif"}],
        "unlabeled": ["scene.tif"],
        "val": [{"image": "scene.tif", "labels": "labels.tif", "windows": [VAL]}],
        "bands": ["red", "green", "blue"],
        **changes,
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def quick(data: Path, out: Path, *extra: str, **flags: object) -> TrainConfig:
    """Settings of a tiny run."""
    steps = {} if "epochs" in flags else {"steps": 4}
    return settings_of(None, {"data": str(data), "out": out, "preset": "tiny", **steps, **flags}, [*QUICK, *extra])


def quick_distill(data: Path, out: Path, *extra: str, **flags: object) -> distill.DistillConfig:
    """Settings of a tiny run with teachers."""
    values = {"data": str(data), "out": out, "preset": "tiny", "steps": 4, "teacher": "tiny-dino:none", **flags}
    return distill.settings_of(None, values, [*QUICK, *extra])


def chips(folder: Path, count: int = 6, side: int = 64) -> Path:
    """A folder of chips: images/NN.tif and labels/NN.tif."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        pixels, truth = Landscape(seed=3).block(Window(0, index * side, side, side))
        write_raster(folder / "images" / f"{index:02}.tif", pixels)
        write_raster(folder / "labels" / f"{index:02}.tif", truth)
    return folder


def noise(size: int = 2, *, extra: int = 0, classes: int = 6, side: int = 64) -> Batch:
    """A batch of noise; the first strong view has a box of its partner's."""
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> torch.Tensor:
        return torch.rand(count, 3, side, side, generator=generator)

    boxes = tuple(torch.zeros(size, side, side, dtype=torch.bool) for _ in range(2))
    boxes[0][:, 10:30, 10:30] = True
    return Batch(
        step=3,
        slots=tuple(range(size)),
        images=images(size),
        labels=torch.randint(0, classes, (size, side, side), generator=generator),
        seen=torch.ones(size, side, side, dtype=torch.bool),
        weak=images(size + extra),
        strong=(images(size + extra), images(size + extra)),
        valid=torch.ones(size + extra, side, side, dtype=torch.bool),
        boxes=boxes,
        partner=torch.arange(size, 2 * size) if extra else torch.arange(size) ^ 1,
    )
