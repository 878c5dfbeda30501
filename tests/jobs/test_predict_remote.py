"""Maps that go to object storage: whole, known again, and continued where an upload broke off."""

import json

import numpy as np
import pytest
from support import bucket
from support.models import save_tiny
from support.rasters import noise, write_raster

from co2s_cli.cloud import stored_attributes
from co2s_cli.config import load
from co2s_cli.config.data import read_data
from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.config.train import TrainConfig
from co2s_cli.errors import ConfigError, InputError, OutputError
from co2s_cli.geo.gdal import reading
from co2s_cli.inference import publishing
from co2s_cli.inference.engine import InferenceEngine
from co2s_cli.jobs import predict


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    with bucket.running() as server:
        for number, name in enumerate(("a", "b")):
            write_raster(folder / name, noise((3, 150, 170), seed=number), tiled=True, blockxsize=64, blockysize=64)
            server.put("scenes", f"2026/{name}.tif", (folder / name).read_bytes())
        server.put("maps", "readme.txt", b"")
        yield server


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    server.use(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def run(model, out, scene="s3://scenes/2026/a.tif", **others):
    base = {"scenes": [str(scene)], "out": out, "model": model, "precision": "fp32", "device": "cpu"}
    return predict.run(load(PredictConfig, None, {**base, **others}))


def pixels(source):
    with reading(str(source)) as dataset:
        return dataset.read()


@pytest.mark.slow
def test_maps_in_a_bucket_are_those_on_disk_and_known_again(s3, model, tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    wanted = run(model, tmp_path / "maps", "s3://scenes/2026/")
    again = {"scene": "s3://scenes/2026/*.tif", "confidence": "s3://maps/first/surer", "vector": "s3://maps/first"}
    result = run(model, "s3://maps/first/", **again)
    assert result.text().split() == ["s3://maps/first/a.tif", "s3://maps/first/b.tif"]
    for here, there in zip(wanted.maps, result.maps, strict=True):
        np.testing.assert_array_equal(pixels(there.out), pixels(here.out))
        for name in ("confidence", "vector"):
            assert stored_attributes(there.addresses[name]) is not None
    assert stored_attributes("s3://maps/first/a.tif")["Content-Type"].startswith("image/tiff")
    assert stored_attributes("s3://maps/first/a.qml") is not None
    with pytest.raises(OutputError, match=r"s3://maps/first/a.tif: exists and is not overwritten"):
        run(model, "s3://maps/first/a.tif")
    s3.tell("clear")
    monkeypatch.setattr(InferenceEngine, "run", None)
    result = run(model, "s3://maps/first/", **again, resume=True)
    assert [made.state for made in result.maps] == ["done", "done"]
    assert not [line for line in s3.requests() if line.startswith("PUT") or "GET /maps" in line]
    with pytest.raises(OutputError, match=r"first/a.tif: .* other settings"):
        run(model, "s3://maps/first/a.tif", overlap=0.5, resume=True)
    assert not list((tmp_path / "cache" / "co2s").rglob("*.*"))


def test_an_upload_that_broke_off_goes_on_without_computing(s3, model, tmp_path, monkeypatch):
    real = publishing.upload

    def breaks(path, *others):
        if path.suffix == ".tif":
            raise OutputError("broken off")
        real(path, *others)

    monkeypatch.setattr(publishing, "upload", breaks)
    with pytest.raises(OutputError, match=r"broken off"):
        run(model, "s3://maps/second.tif", scratch=tmp_path / "scratch")
    assert stored_attributes("s3://maps/second.tif") is None
    monkeypatch.setattr(publishing, "upload", real)
    (made,) = run(model, "s3://maps/second.tif", scratch=tmp_path / "scratch").maps
    assert (made.state, made.ran, made.addresses) == ("resumed", 0, {"class": "s3://maps/second.tif"})
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())


def test_what_is_missing_in_a_bucket_beside_a_map_on_this_machine_is_made(s3, model, tmp_path):
    beside = {"vector": "s3://maps/beside/map.fgb", "scratch": tmp_path / "scratch"}
    run(model, tmp_path / "map.tif", scratch=tmp_path / "scratch")
    (made,) = run(model, tmp_path / "map.tif", **beside, resume=True).maps
    assert made.state == "done"
    assert stored_attributes("s3://maps/beside/map.fgb") is not None
    run(model, tmp_path / "map.tif", **beside, stac=True, resume=True)
    item = json.loads((tmp_path / "map.json").read_text())
    assert item["assets"]["vector"]["href"] == "s3://maps/beside/map.fgb"


def test_unfinished_work_of_a_local_map_lies_on_scratch(s3, model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OutputError("disk full")

    monkeypatch.setattr("co2s_cli.inference.mapping.write_rasters", full)
    with pytest.raises(OutputError, match=r"disk full"):
        run(model, tmp_path / "map.tif", scratch=tmp_path / "scratch")
    assert list((tmp_path / "scratch").rglob("*.class.tif"))
    assert not list(tmp_path.glob("map.tif*"))


@pytest.mark.parametrize(
    ("out", "kind", "told"),
    [
        ("s3://nowhere/map.tif", OutputError, "s3://nowhere/map.tif: there is no bucket nowhere"),
        ("https://host/map.tif", ConfigError, "https://host/map.tif: cannot be written to"),
        ("s3://maps/map.png", ConfigError, "s3://maps/map.png: a GeoTIFF is written"),
        ("s3://scenes/2026/a.tif", ConfigError, "s3://scenes/2026/a.tif: would overwrite"),
    ],
)
def test_where_no_map_can_go_is_told(s3, model, out, kind, told):
    with pytest.raises(kind, match=told):
        run(model, out)


def test_no_permission_to_write_is_told_before_anything_is_computed(s3, model, monkeypatch):
    monkeypatch.setattr(InferenceEngine, "run", None)
    with s3.failing(refused=1), pytest.raises(OutputError, match=r"s3://maps/third.tif: no permission"):
        run(model, "s3://maps/third.tif")


@pytest.mark.slow
def test_a_third_of_the_requests_may_fail(s3, model, tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "8")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with s3.failing(share=0.3):
        run(model, "s3://maps/fourth.tif", confidence="s3://maps/fourth_surer.tif")
    run(model, tmp_path / "map.tif")
    np.testing.assert_array_equal(pixels("s3://maps/fourth.tif"), pixels(tmp_path / "map.tif"))


def test_a_scene_that_is_gone_midway_ends_the_run_and_its_parts_stay(s3, model, tmp_path, monkeypatch):
    for name, value in {"LOW_SPEED_TIME": "1", "RETRY_DELAY": "0.1", "MAX_RETRY": "1"}.items():
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)
    real = InferenceEngine.run

    def breaks(self, *arguments):
        s3.tell("share=1.0")
        return real(self, *arguments)

    path = write_raster(tmp_path / "c.tif", noise((3, 600, 170)), tiled=True, blockxsize=64, blockysize=64)
    s3.put("scenes", "c.tif", path.read_bytes())
    monkeypatch.setattr(InferenceEngine, "run", breaks)
    try:
        with pytest.raises(InputError, match=r"s3://scenes/c.tif: .*cannot be read"):
            run(model, tmp_path / "map.tif", "s3://scenes/c.tif", tile=64)
    finally:
        s3.tell("share=0.0")
    assert (tmp_path / "map.tif.parts" / "journal.json").exists()


@pytest.mark.parametrize(
    ("kind", "flag"), [(PseudoLabelConfig, "out"), (PredictConfig, "scratch"), (TrainConfig, "out")]
)
def test_other_outputs_are_paths_of_this_machine(kind, flag):
    base = {"scenes": ["a.tif"], "out": "here"} if kind is not TrainConfig else {"data": "data.yaml"}
    with pytest.raises(ConfigError, match=rf"--{flag} s3://maps/here: wants a path of this machine"):
        load(kind, None, {**base, flag: "s3://maps/here"})


def test_model_and_area_may_be_addresses_and_are_fetched_once(s3, model, tmp_path):
    s3.put("maps", "m/tiny.safetensors", model.read_bytes())
    area = '{"type":"Polygon","coordinates":[[[0,0],[80,0],[80,-60],[0,-60],[0,0]]]}'
    scene = write_raster(tmp_path / "scene.tif", noise((3, 150, 170)), crs="EPSG:4326", transform=(1, 0, 0, 0, -1, 0))
    s3.put("maps", "m/area.geojson", area.encode())
    (tmp_path / "area.geojson").write_text(area)
    run("s3://maps/m/tiny.safetensors", tmp_path / "there.tif", scene, aoi="s3://maps/m/area.geojson")
    s3.tell("clear")
    run(f"{s3.address}/maps/m/tiny.safetensors", tmp_path / "web.tif", scene, aoi="s3://maps/m/area.geojson")
    run(model, tmp_path / "here.tif", scene, aoi=tmp_path / "area.geojson")
    np.testing.assert_array_equal(pixels(tmp_path / "there.tif"), pixels(tmp_path / "here.tif"))
    assert not [line for line in s3.requests() if line.startswith("GET /maps/m/area")]
    with pytest.raises(InputError, match=r"s3://maps/m/none.safetensors: does not exist"):
        run("s3://maps/m/none.safetensors", tmp_path / "none.tif", scene)


def test_labels_of_a_data_yaml_may_be_addresses(s3, tmp_path):
    s3.put("maps", "labels.geojson", b"{}")
    (tmp_path / "data.yaml").write_text(
        "classes: [{name: a}, {name: b}]\nlabeled: [{image: a.tif, labels: 's3://maps/labels.geojson'}]\n"
    )
    (entry,) = read_data(tmp_path / "data.yaml").labeled
    assert (entry.labels.read_text(), entry.image) == ("{}", str(tmp_path / "a.tif"))


def test_maps_of_items_are_named_by_them(s3, model, tmp_path):
    assets = {}
    for number, name in enumerate(("red", "green", "blue")):
        write_raster(tmp_path / "band.tif", noise((1, 90, 100), seed=number))
        s3.put("scenes", f"bands/{name}.tif", (tmp_path / "band.tif").read_bytes())
        assets[name] = {"href": f"bands/{name}.tif", "type": "image/tiff"}
    stacked = np.concatenate([noise((1, 90, 100), seed=number) for number in range(3)])
    whole = write_raster(tmp_path / "whole.tif", stacked)
    item = {"type": "Feature", "stac_version": "1.1.0", "id": "S2A_7", "properties": {}, "assets": assets}
    s3.put("scenes", "item.json", json.dumps(item).encode())
    (tmp_path / "maps").mkdir()
    (made,) = run(model, tmp_path / "maps", "s3://scenes/item.json", assets=["red,green", "blue"]).maps
    assert made.out == str(tmp_path / "maps" / "S2A_7.tif")
    run(model, tmp_path / "whole_map.tif", whole)
    np.testing.assert_array_equal(pixels(made.out), pixels(tmp_path / "whole_map.tif"))
