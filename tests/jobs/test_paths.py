"""Each command refuses an output that is one of its inputs, before it opens any of them."""

import json
from pathlib import Path

import pytest
import yaml

VRT = "<VRTDataset><SourceFilename relativeToVRT='1'>map.tif</SourceFilename></VRTDataset>"


@pytest.fixture
def folder(tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name in ("map.tif", "sure.tif", "model.safetensors", "area.gpkg", "report.json"):
        Path(name).write_bytes(b"nothing")
    Path("scene.vrt").write_text(VRT)
    for run in ("run", "labelled"):
        Path(run).mkdir()
    comment = f"<?xml version='1.0'?><!-- {'-+' * 100} -->"
    Path("late.vrt").write_text(comment + VRT)
    Path("lower.vrt").write_text(VRT.replace("SourceFilename", "sourcefilename").replace("VRTD", "vrtd", 1))
    Path("verbatim.vrt").write_text(VRT.replace("map.tif", "<![CDATA[map.tif]]>"))
    Path("run/last.safetensors").write_bytes(b"nothing")
    Path("labelled/curves.png").write_bytes(b"nothing")
    data = {"classes": ["a", "b"], "labeled": [{"image": "scene.vrt", "labels": "labelled/curves.png"}]}
    Path("data.yaml").write_text(yaml.safe_dump(data))
    Path("list.tif").write_text("scene.vrt")
    assets = {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in "ab"}
    Path("items.geojson").write_text(json.dumps({"type": "Feature", "id": "one", "assets": assets}))
    Path("settings.gpkg").write_text("min_area: 20px")
    Path("labelled/confusion.png").symlink_to(tmp_path / "map.tif")
    return tmp_path


COMMANDS = [
    ("vectorize map.tif --confidence area.gpkg --out area.gpkg", "--confidence area.gpkg"),
    ("vectorize scene.vrt --out a.gpkg --sieved map.tif", "RASTER scene.vrt, by way of map.tif"),
    ("vectorize map.tif --out a.gpkg --confidence sure.tif --sieved sure.tif", "--confidence sure.tif"),
    ("evaluate map.tif report.json --out .", "TRUTH report.json"),
    ("evaluate data.yaml --model model.safetensors --out labelled", "data.yaml scene.vrt, by way of map.tif"),
    ("import model.safetensors --dataset whdld --out model.safetensors", "CHECKPOINT... model.safetensors"),
    ("predict scene.vrt --out map.tif", "SCENE scene.vrt, by way of map.tif"),
    ("predict late.vrt --out map.tif", "SCENE late.vrt, by way of map.tif"),
    ("predict lower.vrt --out map.tif", "SCENE lower.vrt, by way of map.tif"),
    ("predict verbatim.vrt --out map.tif", "SCENE verbatim.vrt, by way of map.tif"),
    ("predict @list.tif --out list.tif", "SCENE @list.tif, by way of list.tif"),
    ("predict items.geojson --assets a,b --out new.tif --vector items.geojson", "SCENE items.geojson"),
    ("vectorize map.tif --out settings.gpkg --config settings.gpkg", "--config settings.gpkg"),
    ("predict scene.vrt --out a.tif --confidence map.tif", "SCENE scene.vrt, by way of map.tif"),
    ("train data.yaml --preset tiny --out run --init run/last.safetensors", "--init run/last.safetensors"),
    ("train data.yaml --preset tiny --out labelled", "data.yaml labelled/curves.png"),
    ("distill data.yaml --preset tiny --out run -t run/last.safetensors", "--teacher run/last.safetensors"),
    ("init scene.vrt --labels area.gpkg --out area.gpkg", "--labels area.gpkg"),
]


@pytest.mark.parametrize(("command", "origin"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_no_command_writes_over_what_it_reads(folder, co2s, command, origin):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = co2s(*command.split(), *([] if command.startswith("init ") else ["--overwrite"]))
    assert result.exit_code == 2, result.stderr
    assert f"an input of this command ({origin})" in " ".join(result.stderr.split())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_sieved_raster_is_no_second_name_of_the_polygons(folder, co2s):
    result = co2s("vectorize", "map.tif", "--out", "a.gpkg", "--sieved", "a.gpkg")
    assert result.exit_code == 2
    assert "--sieved a.gpkg: --out writes the same file" in result.stderr
