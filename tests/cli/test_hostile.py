"""Inputs that nobody would send in good faith, and damaged ones: one line, the right exit code, no traceback."""

import json
import os
import re
from pathlib import Path

import geopandas
import numpy as np
import pyarrow
import pytest
import shapely
import yaml
from affine import Affine
from pyarrow import parquet
from rasterio.shutil import copy
from support.models import NAMES, save_tiny
from support.rasters import UTM, noise, write_raster

WEST, NORTH = UTM["transform"] @ (2, 2)
BOX = shapely.box(WEST, NORTH - 200, WEST + 200, NORTH)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    """A folder with a scene, a map and a model, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    write_raster("scene.tif", noise((3, 30, 40)))
    write_raster("map.tif", noise((30, 40), low=0, high=4), nodata=255)
    os.symlink(model, "model.safetensors")
    return tmp_path


@pytest.fixture
def refused(co2s, folder, capfd):
    """Run a command that must be refused: its exit code and its one line."""

    def run(*words):
        result = co2s(*words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        errors = re.findall(r"^error: (.*)$", result.stderr, re.MULTILINE)
        assert len(errors) == 1, result.stderr
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.stderr)
        assert not capfd.readouterr().err  # nothing of GDAL's, which writes past Python
        return result.exit_code, errors[0]

    return run


PREDICT = ("predict", "scene.tif", "-m", "model.safetensors", "-o", "out.tif")
VECTORIZE = ("vectorize", "map.tif", "-o", "out.gpkg", "--workers", 1)


@pytest.mark.parametrize(
    "words",
    [
        ("info", "pipe"),
        ("info", "over_pipe.vrt"),
        ("predict", "over_pipe.vrt", "-m", "model.safetensors", "-o", "out.tif"),
        ("predict", "pipe", "-m", "model.safetensors", "-o", "out.tif"),
        ("predict", "@pipe", "-m", "model.safetensors", "-o", "out.tif"),
        ("predict", "@/dev/zero", "-m", "model.safetensors", "-o", "out.tif"),
        ("predict", "scene.tif", "-m", "pipe", "-o", "out.tif"),
        (*PREDICT, "--aoi", "pipe"),
        (*PREDICT, "--config", "pipe"),
        ("vectorize", "pipe", "-o", "out.gpkg"),
        (*VECTORIZE, "--confidence", "pipe"),
        ("evaluate", "pipe", "map.tif"),
        ("evaluate", "map.tif", "pipe"),
        ("evaluate", "map.tif", "pipe.gpkg"),
        ("evaluate", "map.tif", "map.tif", "--classes", "/dev/zero"),
        ("train", "pipe"),
        ("import", "pipe", "--dataset", "loveda", "--out", "out.safetensors"),
    ],
)
def test_pipes_and_devices_are_refused_at_once(refused, words):
    for name in ("pipe", "pipe.gpkg"):
        os.mkfifo(name)
    copy("scene.tif", "over_pipe.vrt", driver="VRT")
    virtual = Path("over_pipe.vrt")
    virtual.write_text(virtual.read_text().replace(">scene.tif<", ">pipe<"))
    code, line = refused(*words)
    assert code == 3
    assert "not a regular file" in line or "no such" in line


@pytest.mark.parametrize("beside", ["scene.tif.aux.xml", "scene.tif.ovr", "scene.tif.msk"])
def test_what_gdal_opens_with_a_scene_is_a_file_too(refused, beside):
    os.mkfifo(beside)
    for words in (("info", "scene.tif"), PREDICT):
        code, line = refused(*words)
        assert code == 3
        assert f"{beside}: cannot be read (not a regular file)" in line


@pytest.mark.parametrize("name", ["/vsizip/pipe/scene.tif", "/vsisubfile/0_100,pipe", "GTIFF_DIR:1:pipe"])
def test_a_pipe_inside_a_longer_name_is_refused(refused, name):
    os.mkfifo("pipe")
    code, line = refused("info", name)
    assert code == 3
    assert "pipe: cannot be read (not a regular file)" in line


def test_a_style_of_another_origin_stays(co2s, folder):
    Path("out.qml").write_text('<qgis version="3.34.4-Prizren"/>')
    first = co2s(*PREDICT)
    assert first.exit_code == 0
    assert "out.qml: is a style that co2s has not written, it is kept" in first.stderr
    assert "Prizren" in Path("out.qml").read_text()
    Path("out.qml").unlink()
    for _ in range(2):
        assert "has not written" not in co2s(*PREDICT, "--overwrite").stderr
    assert "paletted" in Path("out.qml").read_text()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((*PREDICT, "--res", "1e-9"), 3, "along a side"),
        ((*PREDICT, "--res", "1e-300"), 3, "along a side"),
        ((*PREDICT, "--res", "1e-3"), 3, "at most 5000000 are computed"),
        ((*PREDICT, "-b", "1..999999999999"), 2, "at most 2000 bands"),
        ((*PREDICT, "-b", "9" * 5000), 3, "none or several of them called"),
        ((*PREDICT, "--mem-limit", "9" * 400), 2, "exabytes"),
        ((*VECTORIZE, "--min-area", "1e400"), 2, "below 1e+15"),
        ((*VECTORIZE, "--simplify", "9" * 400), 2, "below 1e+15"),
        ((*VECTORIZE, "--dst-crs", "\x1b[31m" + "x" * 500), 2, "no such coordinate system"),
        ((*VECTORIZE, "--classes", "9" * 5000), 2, "no such class"),
        ((*VECTORIZE, "--layer", "x" * 5000), 2, "--layer"),
        (("train", "data.yaml", "--labeled-ratio", "1e999999999"), 2, "--labeled-ratio"),
        (("predict", "scene.tif", "-m", "model.safetensors", "-o", "\udcff.tif"), 4, "must be UTF-8 text"),
    ],
)
def test_sizes_without_bounds_are_refused(refused, words, code, told):
    found, line = refused(*words)
    assert found == code
    assert told in line
    assert len(line) < 400


@pytest.mark.parametrize("lines", ["@list.txt", "@other.txt", "a\0b.tif"])
def test_a_list_names_scenes(refused, folder, lines):
    (folder / "list.txt").write_text(f"{lines}\n")
    code, line = refused("predict", "@list.txt", "-m", "model.safetensors", "-o", ".")
    assert code == 3
    assert line.startswith("list.txt: ")


PLACES = {
    "zero": (0, 0, 500_000),
    "tiny": (1e-300, -1e-300, 500_000),
    "far": (10, -10, 1e308),
    "infinite": (float("inf"), -10, 0),
    "nan": (float("nan"), -10, 0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "words", [("info", "x.vrt"), ("vectorize", "x.vrt", "-o", "a.gpkg"), ("evaluate", "map.tif", "x.vrt")]
)
def test_a_georeference_that_places_no_pixel_is_refused(refused, folder, place, words):
    width, height, west = PLACES[place]
    (folder / "x.vrt").write_text(
        f'<VRTDataset rasterXSize="40" rasterYSize="30"><GeoTransform>{west},{width},0,0,0,{height}</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">map.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    code, line = refused(*words)
    assert code == 3
    assert "x.vrt: its georeference is damaged" in line


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((*PREDICT, "--batch", "9" * 50), 2, "--batch"),
        ((*PREDICT, "--scale", "\x1b[31m" + "y" * 1000), 2, "--scale"),
        (("train", "data.yaml", "--set", f"seed={10**20}"), 2, "seed"),
        (("train", "data.yaml", "--set", f"batch={10**20}"), 2, "batch"),
        (("train", "data.yaml", "--set", "eval_resize=999999999999"), 2, "eval_resize"),
        (("train", "data.yaml", "--set", "a=" + "[" * 1000), 2, "--set a="),
    ],
)
def test_values_without_bounds_are_refused(refused, words, code, told):
    found, line = refused(*words)
    assert found == code
    assert told in line
    assert len(line) < 400


DATA = {"classes": list(NAMES), "labeled": [{"image": "scene.tif", "labels": "map.tif"}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scaling": {"low": [0, 0, 0], "high": [float("nan"), 1, 1]}}, "a finite number"),
        ({"scaling": {"low": [0, 0, 0], "high": [float("inf"), 1, 1]}}, "a finite number"),
        ({"ground_resolution": float("inf")}, "a finite number"),
        ({"labeled": [{"image": "scene.tif", "labels": "map.tif", "windows": [[0, 0, 0, 5]]}]}, "a number > 0"),
        ({"labeled": [{"image": "scene.tif", "labels": "map.tif", "windows": [[-1, 0, 5, 5]]}]}, "a number ≥ 0"),
        ({"classes": ["x" * 10_000]}, "at most 200 characters"),
        ({"classes": [{"name": "a", "color": ["x", 0, 0]}]}, "three values"),
        ({"classes": [{"name": "a", "color": [1e308, 0, 0]}]}, "three values"),
        ({"classes": [{"a\x1b": "b"}]}, "keys are name"),
    ],
)
def test_a_data_yaml_with_numbers_that_are_none_is_refused(refused, folder, changes, told):
    (folder / "data.yaml").write_text(yaml.safe_dump({**DATA, **changes}))
    code, line = refused("train", "data.yaml", "--preset", "tiny")
    assert code == 2
    assert told in line
    assert len(line) < 600


def polygon_file(name, geometry=(BOX,), crs=UTM["crs"], **columns):
    columns = columns or {"class": [NAMES[0]] * len(geometry)}
    geopandas.GeoDataFrame(columns, geometry=list(geometry), crs=crs).to_file(name, engine="pyogrio")


def features(name, *rings, kind="FeatureCollection", attribute="water"):
    polygons = [
        {
            "type": "Feature",
            "properties": {"class": attribute},
            "geometry": ring and {"type": "Polygon", "coordinates": [ring]},
        }
        for ring in rings
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    with open(name, "w") as file:
        json.dump({"type": kind, "crs": crs, "features": polygons}, file)


def _tables():
    corner = [WEST, NORTH]
    features("two.geojson", [corner, [WEST + 9, NORTH]])
    features("one.geojson", [corner])
    features("none.geojson", [])
    features("null.geojson", None)
    features("empty.geojson")
    features("far.geojson", [[1e308, 1e308], [-1e308, 1e308], [-1e308, -1e308], [1e308, 1e308]])
    with open("deep.geojson", "w") as file:
        file.write('{"type":"FeatureCollection","features":' + "[" * 100_000)
    parquet.write_table(pyarrow.table({"class": ["water"]}), "plain.parquet")
    with open("cut.parquet", "wb") as file:
        file.write(b"PAR1")
    geo = {
        "primary_column": "geometry",
        "version": "1.0.0",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
    }
    for name, text in (("wkb.parquet", json.dumps(geo)), ("metadata.parquet", "[" * 100_000)):
        table = pyarrow.table({"class": ["water"], "geometry": [b"x"]})
        parquet.write_table(table.replace_schema_metadata({b"geo": text.encode()}), name)


TABLES = ("two.geojson", "one.geojson", "none.geojson", "null.geojson", "empty.geojson", "far.geojson", "deep.geojson",
          "plain.parquet", "cut.parquet", "wkb.parquet", "metadata.parquet", "absent.gpkg", "map.tif")  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_files_without_polygons_are_refused(refused, name):
    _tables()
    if name != "map.tif":
        code, line = refused("evaluate", "map.tif", name)
        assert code == 3
        assert line.startswith(name)
    code, line = refused(*PREDICT, "--aoi", name)
    assert code == 3
    assert line.startswith(name)


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2020-01-01"], "datetime64[ms]"),
        [True],
        [0.5],
        [float("inf")],
        [10**15],
    ],
)
def test_attributes_that_name_no_class_are_refused(refused, values):
    polygon_file("labels.gpkg", **{"class": values})
    code, line = refused("evaluate", "map.tif", "labels.gpkg")
    assert code == 3
    assert "is no class" in line


def test_a_list_as_attribute_is_no_class(refused):
    features(
        "labels.geojson", [[WEST, NORTH], [WEST + 90, NORTH], [WEST, NORTH - 90], [WEST, NORTH]], attribute=["a", "b"]
    )
    code, line = refused("evaluate", "map.tif", "labels.geojson")
    assert code == 3
    assert "is no class" in line


@pytest.mark.parametrize("words", [("map.geojson",), ("map.gpkg", "--dst-crs", "EPSG:3857")])
def test_a_crs_of_nowhere_stays_in_its_own_coordinates(refused, co2s, folder, words):
    write_raster("map.tif", noise((30, 40), low=0, high=4), crs='LOCAL_CS["here",UNIT["metre",1]]')
    code, line = refused("vectorize", "map.tif", "--workers", 1, "-o", *words)
    assert code == 3
    assert "is not tied to the earth" in line
    polygon_file("labels.gpkg", **{"class": [1]})
    code, line = refused("evaluate", "map.tif", "labels.gpkg")
    assert code == 3
    assert "cannot be brought to the scene's CRS" in line
    assert co2s("vectorize", "map.tif", "-o", "own.gpkg", "--workers", 1).exit_code == 0


def test_the_pole_has_no_place_in_web_mercator(refused, co2s):
    write_raster("map.tif", noise((30, 40), low=0, high=4), crs="EPSG:4326", transform=Affine(0.1, 0, 10, 0, -0.1, 95))
    code, line = refused(*VECTORIZE, "--dst-crs", "EPSG:3857")
    assert code == 3
    assert "no coordinates in the CRS" in line


@pytest.mark.slow
def test_polygons_of_vectorize_in_any_format_are_labels_truth_and_area(co2s, folder):
    for name in ("a.gpkg", "a.fgb", "a.parquet", "a.geojson"):
        done = co2s("vectorize", "map.tif", "-o", name, "--overwrite", "--min-area", 0, "--simplify", 0, "--workers", 1)
        assert done.exit_code == 0, done.stderr
        done = co2s("evaluate", "map.tif", name, "--attribute", "class_id", "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["verdict"]["accuracy"] == pytest.approx(1, abs=0.01)
        done = co2s(*PREDICT, "--aoi", name, "--dry-run")
        assert done.exit_code == 0, done.stderr
