"""One small valid input of every kind that a command reads, and the flags of a run that takes seconds."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import shapely
import torch
import yaml
from rasterio.features import shapes
from rasterio.shutil import copy
from support import published
from support.models import NAMES, save_tiny
from support.rasters import UTM, noise, write_raster

from co2s_cli.classes import ClassMap
from co2s_cli.config.predict import PredictConfig
from co2s_cli.errors import InterruptError
from co2s_cli.inference import mapping
from co2s_cli.jobs import predict as predict_job
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.progress import Silent

ROWS, COLUMNS = 80, 96
TRAINING = ["crop=32", "batch=1", "precision=fp32", "workers=1", "val_every=2", "eval_tile=32"]
SET = [word for text in TRAINING for word in ("--set", text)]
STUDENT = ["--student", "tiny-student", "--student-weights", "none"]
BEGIN = ["train", "data.yaml", *STUDENT, "--method", "fixmatch", "--steps", "2", *SET]


class _Interrupting(Silent):
    """Ctrl-C after some windows."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, count: int = 1, **facts: object) -> None:
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


def build(folder: Path) -> None:
    """Fill `folder` with a scene, labels, tables, models and settings, and with an unfinished map."""
    scene = noise((3, ROWS, COLUMNS))
    scene[:, :40] //= 2
    write_raster(folder / "scene.tif", scene)
    copy(folder / "scene.tif", folder / "scene.vrt", driver="VRT")
    truth = np.repeat(np.repeat(noise((ROWS // 16, COLUMNS // 16), low=0, high=4), 16, 0), 16, 1)
    write_raster(folder / "labels.tif", truth, nodata=255)
    write_raster(folder / "map.tif", truth, nodata=255)
    write_raster(folder / "weights.tif", noise((ROWS, COLUMNS)) / np.float32(200))
    _write_tables(folder, truth)
    _write_models(folder)
    content = {
        "classes": list(NAMES),
        "labeled": [{"image": "scene.tif", "labels": "labels.tif"}],
        "unlabeled": ["scene.tif"],
        "val": 0.3,
        "bands": ["red", "green", "blue"],
        "scaling": {"dtype": "uint8", "low": [0, 0, 0], "high": [255, 255, 255]},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    content["labeled"] = [
        {"image": "scene.tif", "labels": "truth.gpkg", "attribute": "class", "weights": "weights.tif"}
    ]
    (folder / "polygons.yaml").write_text(yaml.safe_dump(content))
    (folder / "predict.yaml").write_text("tile: 32\noverlap: 0.25\nscale: 0,255\nbands: [1, 2, 3]\nres: 10\n")
    (folder / "list.txt").write_text("# scenes\nscene.tif\n")
    _begin_map(folder)


def widen(folder: Path) -> None:
    """A scene of some hundred windows, which takes a second or two."""
    write_raster(folder / "wide.tif", noise((3, 5 * ROWS, 5 * COLUMNS)))


def _write_tables(folder: Path, truth: np.ndarray) -> None:
    outlines = [(shapely.geometry.shape(outline), int(value)) for outline, value in shapes(truth, **_PLACE)]
    columns = {"class": [NAMES[value] for _, value in outlines], "class_id": [value for _, value in outlines]}
    table = geopandas.GeoDataFrame(columns, geometry=[outline for outline, _ in outlines], crs=UTM["crs"])
    table.to_file(folder / "truth.gpkg", driver="GPKG", engine="pyogrio")
    table.to_file(folder / "truth.geojson", driver="GeoJSON", engine="pyogrio")
    table.to_parquet(folder / "truth.parquet")
    west, north = UTM["transform"] @ (10, 10)
    area = geopandas.GeoSeries([shapely.box(west, north - 500, west + 600, north)], crs=UTM["crs"])
    for name, driver in (("area.gpkg", "GPKG"), ("area.geojson", "GeoJSON")):
        area.to_file(folder / name, driver=driver, engine="pyogrio")


_PLACE = {"transform": UTM["transform"], "connectivity": 4}


def _write_models(folder: Path) -> None:
    torch.manual_seed(0)
    manifest = Manifest(
        students={"local": catalog.local_student(("red", "green", "blue"))},
        classes=tuple(ClassMap.of(NAMES).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        tile=32,
        trained_on="nothing",
    )
    weights.save(fresh.new_ensemble(manifest).eval(), folder / "model.safetensors")
    save_tiny(folder / "pair.safetensors", tile=64)
    published.save(folder / "best_clip.pth", "clip", classes=7, layers=6)


def _begin_map(folder: Path) -> None:
    """A map that was interrupted when half of its parts were done."""
    scenes = [str(folder / "scene.tif")]
    settings = PredictConfig(scenes=scenes, model=folder / "model.safetensors", out=folder / "begun.tif")
    band, mapping.BAND = mapping.BAND, 16
    try:
        predict_job.run(settings, progress=_Interrupting(after=8))
    except InterruptError:
        return
    finally:
        mapping.BAND = band
    raise AssertionError("the map was finished")


RESUME_MAP = ["predict", "scene.tif", "-m", "model.safetensors", "-o", "begun.tif", "--resume"]
RESUME_RUN = ["train", "--out", "run", "--resume"]
