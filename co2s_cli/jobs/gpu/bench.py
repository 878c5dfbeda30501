"""Material of checks and measurements: a device, a folder, made-up scenes, model files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.sample import SampleConfig
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.reader import band_reader
from co2s_cli.geo.write.raster import TILE, image, north_up
from co2s_cli.inference.mapping import MapResult
from co2s_cli.jobs import predict, sample
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, StudentSpec
from co2s_cli.tiling import Window

CLASS_COUNT = 6
"""Number of classes of a model with random weights."""

SPANS = {"uint8": 255.0, "uint16": 10_000.0}
"""Sample type → sample value that is scaled to 1."""

BANDS = ("red", "green", "blue", "nir")


class SkippedError(Exception):
    """The check does not apply to this device."""


class NotMetError(Exception):
    """The claim of a check does not hold; the message has the value found and the value wanted."""


def require(condition: bool, message: str) -> None:
    """Raise `NotMetError` if the condition is false; unlike `assert` also under `python -O`."""
    if not condition:
        raise NotMetError(message)


@dataclass(frozen=True, slots=True)
class Bench:
    """Device, folder and sizes of one check or measurement, with methods that make scenes, models and maps."""

    device: torch.device
    folder: Path
    """Folder of all written files."""
    side: int = 1024
    """Rows and columns of scenes."""
    tile: int = 256
    """Side of windows."""
    crop: int = 128
    """Side of training crops."""
    batch: int = 2
    """Labelled crops per training step."""
    networks: Literal["base", "tiny"] = "tiny"
    """Size of randomly initialised transformers: base is ViT-B (ViT-S for the compact student), tiny runs anywhere."""

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.type == "cuda"

    def sample(self, *, side: int | None = None, dtype: str = "uint8", bands: int = 3) -> sample.SampleResult:
        """A made-up scene with labels and data.yaml, in a separate folder."""
        size = side or self.side
        folder = self.folder / f"land-{size}-{dtype}-{bands}"
        values = {"folder": folder, "size": size, "seed": 7, "dtype": dtype, "bands": bands, "overwrite": True}
        return sample.run(SampleConfig.model_validate(values))

    def repeated(self, *, dtype: str = "uint8", bands: int = 3) -> Path:
        """A scene of `side` × `side` pixels that repeats a made-up one: generating all of it would take minutes."""
        pattern = self.sample(side=min(1024, self.side), dtype=dtype, bands=bands).scene
        path = self.folder / f"scene-{self.side}-{dtype}-{bands}.tif"
        with reading(str(pattern)) as dataset:
            pixels = dataset.read()
        across = np.tile(pixels, (1, 1, -(-self.side // pixels.shape[2])))[:, :, : self.side]
        with image(path, grid=square_grid(self.side), bands=BANDS[:bands], dtype=dtype, nodata=0, tags={}) as writer:
            for row in range(0, self.side, TILE):
                rows = np.arange(row, min(row + TILE, self.side)) % pixels.shape[1]
                writer.write(row, 0, across[:, rows])
        return path

    def model(self, name: str, *, bands: int = 3, dtype: str = "uint8") -> Path:
        """A model file with random weights, by name: pair, compact or local."""
        path = self.folder / f"{name}-{bands}-{dtype}.safetensors"
        torch.manual_seed(0)
        students = _students(name, BANDS[:bands], self.networks)
        weights.save(fresh.new_ensemble(_manifest(students, dtype, self.tile)), path)
        return path

    def predict(self, scene: Path, name: str, **changes: Any) -> MapResult:
        """Map a scene, by default with the demonstration model on the bench's device, to `name`.tif in its folder."""
        settings = {
            "scenes": [str(scene)],
            "out": self.folder / f"{name}.tif",
            "model": weights.demo_path(),
            "tile": self.tile,
            "device": str(self.device),
            "overwrite": True,
            **changes,
        }
        return predict.run(PredictConfig.model_validate(settings)).maps[0]


def square_grid(side: int) -> Grid:
    """A grid of `side` × `side` pixels of half a metre in UTM zone 31 north."""
    return north_up(side, side, epsg=32631, west=400_000, north=5_350_000, resolution=0.5)


def _students(name: str, bands: tuple[str, ...], size: str) -> dict[str, StudentSpec]:
    """The networks of a model by its name, for images with these bands."""
    if name == "local":
        return {"local": catalog.local_student(bands)}
    compact, clip, dino = _NETWORKS[size]
    if name == "compact":
        return {"student": catalog.for_bands(catalog.dense_student(compact), bands)}
    return {
        "clip": catalog.for_bands(catalog.clip_student(clip), bands),
        "dino": catalog.for_bands(catalog.dino_student(dino), bands),
    }


_NETWORKS = {
    "base": ("vit_small_patch16_dinov3.lvd1689m", "ViT-B-16", "vit_base_patch16_dinov3_qkvb.lvd1689m"),
    "tiny": ("tiny-student", "tiny-clip", "tiny-dino"),
}
"""Size → architecture of the compact student, and of the pair's CLIP and DINO students."""


def _manifest(students: dict[str, StudentSpec], dtype: str, tile: int) -> Manifest:
    bands = next(iter(students.values())).bands
    values = {
        "classes": tuple(ClassMap.of([f"class {index}" for index in range(CLASS_COUNT)]).plain()),
        "bands": BANDS[:bands],
        "scaling": {"dtype": dtype, "low": (0,) * bands, "high": (SPANS[dtype],) * bands},
        "students": students,
        "tile": tile,
    }
    return Manifest.model_validate(values)


def values_of(raster: Path) -> NDArray[Any]:
    """The first band of a raster, (h, w)."""
    with band_reader(str(raster)) as reader:
        return reader.read(Window(0, 0, *reader.dataset.shape))


def share_differing(first: Path, second: Path) -> float:
    """Share of the pixels that differ between two maps of the same size."""
    return float(np.mean(values_of(first) != values_of(second)))


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Append a line of JSON and flush it to disk: the figure survives if the process is killed."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())
