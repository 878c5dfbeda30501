"""Tiny fake data sets in the exact layout of each published protocol, made from a seed."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from co2s_cli.config.protocol import TrainingProtocol

SIDE = 64

NAMES = {
    "whdld": ("wh{:04}.jpg", "wh{:04}.png"),
    "loveda": ("{}.png", "{}.png"),
    "potsdam": ("2_10_{}_512.png", "2_10_{}_512.png"),
    "gid15": ("GF2_PMS1__L1A0000_{}_0.tif", "GF2_PMS1__L1A0000_{}_0.png"),
    "mer": ("mer_{:03}.jpg", "mer_{:03}.png"),
    "msl": ("msl_{:03}.jpg", "msl_{:03}.png"),
    "loveda-dwl": ("{}_0.png", "{}_0.png"),
    "potsdam-dwl": ("top_potsdam_2_{}_RGB.tif", "top_potsdam_2_{}_label.tif"),
    "deepglobe": ("{}_sat_3.jpg", "{}_mask_3.png"),
}
"""Names of the images and of the labels."""


def make(root: Path, name: str, protocol: TrainingProtocol, *, coding: str | None = None) -> Path:
    """Write six chips with labels in `root` and give the lists' folder; Mars images are grey or have a palette."""
    rng = np.random.default_rng(7)
    for folder in (protocol.folders.images, protocol.folders.labels):
        (root / folder).mkdir(parents=True)
    codes = protocol.codings.get(coding or next(iter(protocol.codings), ""), {})
    values = [*codes] if codes else list(range(len(protocol.classes)))
    lines = []
    for index in range(6):
        image, label = (kind.format(index) for kind in NAMES[name])
        _image(root / protocol.folders.images / image, rng, gray=name in ("mer", "msl"), palette=index == 1)
        blocks = rng.choice([*values, 255], (4, 4))
        blocks.flat[: len(values)] = values[-16:]
        truth = np.kron(blocks, np.ones((SIDE // 4, SIDE // 4))).astype(np.uint8)
        Image.fromarray(truth).save(root / protocol.folders.labels / label)
        lines.append(f"{protocol.folders.images}/{image} {protocol.folders.labels}/{label}")
    lists = root / "splits" / "1_8"
    lists.mkdir(parents=True)
    for part, chosen in (("labeled", lines[:2]), ("unlabeled", lines[2:5])):
        (lists / f"{part}.txt").write_text("\n".join(chosen) + "\n")
    (lists.parent / "val.txt").write_text(lines[5] + "\n")
    (lists.parent / "test.txt").write_text(lines[4] + "\n")
    return lists


def _image(path: Path, rng: np.random.Generator, *, gray: bool, palette: bool) -> None:
    colors = rng.integers(0, 256, (SIDE // 16, SIDE // 16, 3), dtype=np.uint8)
    pixels = colors.repeat(16, axis=0).repeat(16, axis=1)  # JPEG keeps blocks, not noise
    if gray and palette:
        Image.fromarray(pixels).quantize(16).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    elif gray:
        Image.fromarray(pixels[..., 0]).save(path)
    elif path.suffix == ".tif":
        profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(pixels.transpose(2, 0, 1))
    else:
        Image.fromarray(pixels).save(path)
