"""STAC items of maps: valid by pystac's own schemas, and in the words of the extensions.

The schemas of extensions are on the network; the names and shapes of their fields are written out here.
"""

import json
import re
import sys

import pystac
import pytest
import rasterio
from pystac.validation import validate_dict
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from support.models import NAMES, save_tiny
from support.rasters import noise, write_raster

from co2s_cli.config import load
from co2s_cli.config.predict import PredictConfig
from co2s_cli.errors import ResourceError
from co2s_cli.jobs import predict

AT = rasterio.Affine(10, 0, 600000, 0, -10, 5000000)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def run(model, scene, out, **others):
    base = {"scenes": [str(scene)], "out": out, "model": model, "precision": "fp32", "device": "cpu", "stac": True}
    return predict.run(load(PredictConfig, None, {**base, **others})).maps[0]


@pytest.fixture
def scene(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((3, 150, 170)), crs="EPSG:32631", transform=AT)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2026:05:01 10:30:00")
    return path


def read(path):
    """An item that pystac holds for valid."""
    document = json.loads(path.read_text())
    JsonSchemaSTACValidator().validate_core(document, pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_file(str(path))
    assert item.to_dict(include_self_link=False)["assets"].keys() == document["assets"].keys()
    return document


def test_a_map_has_a_valid_item_beside_it(model, scene, tmp_path):
    made = run(model, scene, tmp_path / "map.tif", confidence=tmp_path / "sure.tif", probabilities=tmp_path / "all.tif")
    assert made.outputs["stac"] == tmp_path / "map.json"
    item = read(tmp_path / "map.json")
    assert (item["id"], item["properties"]["datetime"]) == ("map", "2026-05-01T10:30:00Z")
    assert (item["properties"]["proj:code"], item["properties"]["proj:shape"]) == ("EPSG:32631", [150, 170])
    assert item["properties"]["proj:transform"] == list(AT)[:6]
    with rasterio.open(tmp_path / "map.tif") as dataset:
        bounds = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        assert item["properties"]["co2s:key"] == dataset.tags()["CO2S_KEY"]
    assert item["bbox"] == pytest.approx(bounds, abs=1e-6)
    assert {name: asset["href"] for name, asset in item["assets"].items()} == {
        "map": "./map.tif", "confidence": "./sure.tif", "probabilities": "./all.tif",
    }  # fmt: skip
    legend = item["assets"]["map"]["classification:classes"]
    assert [entry["value"] for entry in legend] == [*range(len(NAMES)), 255]
    assert [entry["title"] for entry in legend[:-1]] == list(NAMES)
    assert all(re.fullmatch(r"[0-9A-Za-z_-]+", entry["name"]) for entry in legend)
    assert all(re.fullmatch(r"[0-9A-F]{6}", entry["color_hint"]) for entry in legend[:-1])
    assert legend[-1]["nodata"] is True
    assert item["assets"]["map"]["raster:bands"] == [{"data_type": "uint8", "nodata": 255, "sampling": "area"}]
    (band,) = item["assets"]["confidence"]["raster:bands"]
    assert band["scale"] == pytest.approx(1 / 254)
    assert len(item["assets"]["probabilities"]["raster:bands"]) == len(NAMES)
    wanted = {"projection/v2.0.0", "classification/v2.0.0", "raster/v1.1.0"}
    assert {re.search(r"\w+/v[\d.]+", uri)[0] for uri in item["stac_extensions"]} == wanted


def test_resume_makes_an_item_that_is_missing(model, scene, tmp_path):
    run(model, scene, tmp_path / "map.tif", vector=tmp_path / "map.fgb")
    before = read(tmp_path / "map.json")
    (tmp_path / "map.json").unlink()
    assert run(model, scene, tmp_path / "map.tif", vector=tmp_path / "map.fgb", resume=True).state == "done"
    assert read(tmp_path / "map.json") == before
    assert before["assets"]["vector"]["type"] == "application/vnd.flatgeobuf"


def test_a_scene_without_a_place_has_an_item_without_geometry(model, tmp_path):
    scene = write_raster(tmp_path / "scene.tif", noise((3, 90, 90)), crs=None, transform=rasterio.Affine.identity())
    (tmp_path / "maps").mkdir()
    run(model, scene, tmp_path / "maps")
    item = read(tmp_path / "maps" / "scene.json")
    assert (item["geometry"], "bbox" in item) == (None, False)


def test_a_missing_extra_is_told_before_anything_is_computed(model, scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(ResourceError, match="pystac") as told:
        run(model, scene, tmp_path / "map.tif")
    assert told.value.hint == "pip install 'co2s_cli[stac]'"
    assert not (tmp_path / "map.tif").exists()


def test_the_schemas_of_the_core_are_those_of_this_machine():
    with pytest.raises(pystac.STACValidationError):
        validate_dict(
            {"type": "Feature", "stac_version": "1.1.0", "id": 3, "assets": {}, "links": [], "properties": {}}
        )
