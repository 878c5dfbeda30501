"""Processor time of one batch of 8 + 8 crops of 512 pixels with two strong views: what the loader's threads spend.

"Before" computes the strong views in the loader, image by image with torchvision; "after" draws their parameters there
and leaves the pixels to the batch's device. Both in one process, in turns; medians. The third figure is what the device
is left with where it is the same processor.
"""

import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor
from torchvision.transforms import functional as tv

from co2s_cli.config.data import DataConfig, LabeledEntry
from co2s_cli.data.batch import DrawnBatch
from co2s_cli.data.dataset import assemble
from co2s_cli.data.loader import BatchPlan, Loader
from co2s_cli.data.samples import View
from co2s_cli.data.strong import StrongParams

SIDE, CROP, BATCH, REPEATS = 4096, 512, 8, 7


def image_by_image(image: Tensor, params: StrongParams) -> Tensor:
    """A strong view (3, h, w) as torchvision computes it."""
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for index in params.order:
        image = steps[index](image, params.factors[index])
    if params.gray:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    if params.radius:
        side = 2 * math.ceil(3 * params.radius) + 1
        image = tv.gaussian_blur(image, [side, side], [params.radius, params.radius])
    return image


def strong_in_loader(batch: DrawnBatch) -> list[Tensor]:
    """All strong views of a batch, one image after the other."""
    weak = batch.weak.float() / 255
    return [
        torch.stack([image_by_image(image, one) for image, one in zip(weak, params, strict=True)])
        for params in batch.strong
    ]


def loader_of(folder: Path) -> Loader:
    """Batches of one scene of noise with labels everywhere."""
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    with rasterio.open(folder / "image.tif", "w", count=3, **profile) as image:
        image.write(rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8))
    with rasterio.open(folder / "labels.tif", "w", count=1, **profile) as labels:
        labels.write(np.kron(rng.integers(0, 6, (64, 64)), np.ones((64, 64))).astype(np.uint8), 1)
    entry = LabeledEntry(image=str(folder / "image.tif"), labels=folder / "labels.tif")
    names = tuple(f"class {index}" for index in range(6))
    config = DataConfig.model_validate({"classes": names, "labeled": [entry], "unlabeled": [entry.image]})
    data = assemble(config, view=View(CROP, (0.5, 2.0), "own"), seed=0)
    return Loader(data.labeled, data.unlabeled, BatchPlan(seed=0, batch=BATCH, crop=CROP))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print the three costs and the ratio."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    cpu = torch.device("cpu")
    costs: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        loader = loader_of(Path(folder))
        loader.batch(0)
        for step in range(1, REPEATS + 1):
            drawn: list[DrawnBatch] = []
            reading = seconds(lambda step=step, drawn=drawn: drawn.append(loader.batch(step)))  # type: ignore[misc]
            views = seconds(lambda batch=drawn[0]: strong_in_loader(batch))  # type: ignore[misc]
            on_device = seconds(lambda batch=drawn[0]: batch.to(cpu))  # type: ignore[misc]
            costs.append((reading + views, reading, on_device))
        loader.release()
    before, after, on_device = (1000 * statistics.median(values) for values in zip(*costs, strict=True))
    print(f"loader, one batch of {BATCH} + {BATCH} crops of {CROP} px: before {before:.0f} ms, after {after:.0f} ms")
    print(f"= {before / after:.1f} times fewer; all views on the same processor: {on_device:.0f} ms")


if __name__ == "__main__":
    main()
