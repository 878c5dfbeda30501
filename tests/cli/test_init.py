"""`co2s init` from the command line: the data.yaml that it writes, what it tells, and its refusals."""

import json
import re
import shlex

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from click.testing import CliRunner
from rasterio.rio.main import main_group
from support.polygons import BOXES, SIDE, frame, landcover, polygon
from support.rasters import UTM, write_raster

from co2s_cli.config.data import read_data

POLYGONS = sum(map(len, BOXES.values()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    landcover(tmp_path)
    return tmp_path


def replaced(**columns):
    """The polygons in polygons.gpkg with other columns."""
    polygons = frame()
    for name, values in columns.items():
        polygons[name] = values
    polygons.to_file("polygons.gpkg")


def test_a_data_yaml_is_written_that_says_what_is_there(co2s, folder):
    result = co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["thin"] == told["remarks"] == []
    assert [item["polygons"] for item in told["classes"]] == [6, 5, 6]
    assert all(item["pixels"] == 100 * item["polygons"] for item in told["classes"])
    assert all(item["train_pixels"] + item["val_pixels"] == item["pixels"] for item in told["classes"])
    assert all(item["val_pixels"] and item["train_pixels"] for item in told["classes"])
    text = (folder / "data.yaml").read_text()
    assert "Forest, color: [34, 120, 50]}  # 6 polygons, 600 pixels" in text
    content = yaml.safe_load(text)
    assert content["labeled"] == [{"image": "scene.tif", "labels": "polygons.gpkg", "attribute": "class"}]
    assert content["unlabeled"] == ["scene.tif"]
    assert content["bands"] == ["red", "green", "blue"]
    assert read_data(folder / "data.yaml").class_map.names == ("Forest", "built-up", "water")


def test_a_border_that_is_not_declared_is_told_until_the_told_command_declares_it(co2s, folder):
    with rasterio.open("scene.tif", "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :, 110:] = 255
        dataset.write(pixels)
    told = co2s("init", "scene.tif", "--labels", "polygons.gpkg").output
    assert "scene.tif: 14 % of its pixels, up to a corner, are 255 in every band" in told
    command = re.search(r"mark them: rio (.*)$", told, re.MULTILINE).group(1)
    assert CliRunner().invoke(main_group, shlex.split(command)).exit_code == 0
    told = co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--overwrite").output
    assert "in every band" not in told


def test_points_label_the_pixels_that_they_lie_in(co2s, folder):
    points = frame()
    points.geometry = points.centroid
    points.to_file("points.gpkg")
    result = co2s("init", "scene.tif", "--labels", "points.gpkg")
    assert result.exit_code == 0, result.output
    assert "3 bands (red, green, blue); 17 points" in result.output
    told = (folder / "data.yaml").read_text()
    assert "Forest, color: [34, 120, 50]}  # 6 points, 6 pixels" in told
    points.loc[1, "class"], points.loc[1, "geometry"] = "built-up", points.geometry[0]
    points.to_file("points.gpkg")
    result = co2s("init", "scene.tif", "--labels", "points.gpkg", "--overwrite")
    assert result.exit_code == 3
    assert "overlap of points of different classes, the largest of number 1 (water) with 2 (built-up): 1" in (
        result.stderr
    )


@pytest.mark.parametrize(("flag", "written"), [("3,red", ["blue", "red"]), ("2..3", ["green", "blue"])])
def test_the_bands_that_are_asked_for_are_written_by_their_names(co2s, folder, flag, written):
    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg", "-b", flag).exit_code == 0
    assert yaml.safe_load((folder / "data.yaml").read_text())["bands"] == written


def test_bands_without_names_are_written_by_their_numbers(co2s, folder):
    with rasterio.open("scene.tif") as scene:
        profile, pixels = {**scene.profile, "count": 4, "photometric": "minisblack"}, scene.read()
    with rasterio.open("four.tif", "w", **profile) as file:
        file.write(pixels[[0, 1, 2, 2]])
    assert co2s("init", "four.tif", "--labels", "polygons.gpkg", "-b", "4,1").exit_code == 0
    assert yaml.safe_load((folder / "data.yaml").read_text())["bands"] == [4, 1]


def test_people_read_a_table_and_the_next_command(co2s, folder):
    lines = co2s("init", "scene.tif", "--labels", "polygons.gpkg").stdout.splitlines()
    assert lines[0] == "scene.tif: 128 × 128 px of 10 m, 3 bands (red, green, blue); 17 polygons"
    assert any(line.split()[:4] == ["water", "#4285c8", "6", "600"] for line in lines)
    assert lines[-2:] == ["next: co2s train data.yaml --out runs/first --preset small", "data.yaml"]


def test_numbers_get_names_and_zero_stays_a_class(co2s, folder):
    codes = [{"water": 0, "Forest": 7, "built-up": 3}[name] for name in frame()["class"]]
    replaced(code=codes)
    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--attribute", "code").exit_code == 0
    data = read_data(folder / "data.yaml")
    assert data.class_map.names == ("class 0", "class 3", "class 7")
    assert data.labeled[0].values == {0: "class 0", 3: "class 3", 7: "class 7"}


def test_spellings_are_one_class_and_words_for_nothing_none(co2s, folder):
    replaced(**{"class": ["Water", "water ", "none", *frame()["class"][3:-1], None]})
    result = co2s("init", "scene.tif", "--labels", "polygons.gpkg")
    assert result.exit_code == 0, result.output
    data = read_data(folder / "data.yaml")
    assert data.labeled[0].values["none"] is None
    assert data.labeled[0].values["water "] == data.labeled[0].values["Water"] == "Water"
    assert "1 of 17 polygons have no class" in result.stdout
    assert "differ only in case or blanks" in result.stdout


def test_polygons_of_another_crs_are_reprojected(co2s, folder):
    co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--json", "--out", "same.yaml")
    frame().to_crs(4326).to_file("degrees.geojson")
    result = co2s("init", "scene.tif", "--labels", "degrees.geojson", "--json")
    told = json.loads(result.stdout)
    assert told["remarks"] == ["degrees.geojson: is in EPSG:4326, reprojected to the scene's EPSG:32633"]
    assert [item["pixels"] for item in told["classes"]] == pytest.approx([600, 500, 600], abs=15)


def test_a_scene_without_polygons_is_unlabelled(co2s, folder):
    pixels = np.full((3, 64, 64), 100, np.uint8)
    write_raster("other.tif", pixels, **{**UTM, "transform": UTM["transform"].translation(900_000, 5_000_000)})
    assert co2s("init", "scene.tif", "other.tif", "--labels", "polygons.gpkg").exit_code == 0
    data = read_data(folder / "data.yaml")
    assert [entry.image for entry in data.labeled] == [str(folder / "scene.tif")]
    assert len(data.unlabeled) == 2


def test_what_is_thin_is_told(co2s, folder):
    polygons = frame()
    keep = [*range(7), 8, 12]
    polygons.iloc[keep].to_file("polygons.gpkg")
    thin = json.loads(co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--json").stdout)["thin"]
    assert len(thin) == 2
    assert thin[0].startswith("Forest: labelled in 2 places")
    assert thin[1].startswith("built-up: cannot be validated")


@pytest.mark.parametrize("words", [("init", "scene.tif"), ("train", "scene.tif", "--out", "run")])
def test_an_unknown_attribute_is_told_with_those_that_fit(co2s, folder, words):
    replaced(id=list(range(POLYGONS)))
    result = co2s(*words, "--labels", "polygons.gpkg", "--attribute", "kind")
    assert result.exit_code == 3
    assert "has no attribute 'kind' (found: class (3 values, fits), id (17 values))" in result.stderr
    assert "hint: choose another attribute: --attribute class" in result.stderr
    assert not (folder / "run").exists()


def test_the_only_attribute_that_fits_is_taken(co2s, folder):
    replaced(id=list(range(POLYGONS)))
    polygons = geopandas.read_file("polygons.gpkg").rename(columns={"class": "land"})
    polygons.to_file("renamed.gpkg")
    result = co2s("init", "scene.tif", "--labels", "renamed.gpkg", "--json")
    assert json.loads(result.stdout)["attribute"] == "land"
    polygons.assign(other=polygons["land"]).to_file("two.gpkg")
    result = co2s("init", "scene.tif", "--labels", "two.gpkg", "--out", "two.yaml")
    assert "(found: land (3 values, fits), id (17 values), other (3 values, fits))" in result.stderr


def test_one_class_is_refused(co2s, folder):
    replaced(**{"class": ["water"] * POLYGONS})
    result = co2s("init", "scene.tif", "--labels", "polygons.gpkg")
    assert result.exit_code == 3
    assert "attribute class names 1 class (values: water), at least two are wanted" in result.stderr
    assert not (folder / "data.yaml").exists()


def test_polygons_outside_are_refused_with_both_places(co2s, folder):
    frame().translate(xoff=1e5).to_frame("geometry").assign(**{"class": list(frame()["class"])}).to_file(
        "polygons.gpkg"
    )
    result = co2s("init", "scene.tif", "--labels", "polygons.gpkg")
    assert result.exit_code == 3
    assert "none of its 17 polygons lies on scene.tif" in result.stderr
    assert "(polygons: EPSG:32633, scene: EPSG:32633)" in result.stderr


def test_overlaps_are_refused_or_the_later_polygon_wins(co2s, folder):
    polygons = frame()
    polygons.loc[POLYGONS] = ["Forest", polygon(5, 5)]
    polygons.to_file("polygons.gpkg")
    result = co2s("init", "scene.tif", "--labels", "polygons.gpkg")
    assert result.exit_code == 3
    assert "1 overlap of polygons of different classes, the largest of number 1 (water) with 18 (Forest): 81" in (
        result.stderr
    )
    told = json.loads(co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--overlaps", "last", "--json").stdout)
    assert "the later one wins" in told["remarks"][0]
    assert [item["pixels"] for item in told["classes"]] == [700, 500, 519]


def test_a_slip_along_a_border_is_no_overlap(co2s, folder):
    polygons = frame()
    polygons.loc[POLYGONS] = ["Forest", polygon(13.5, 4)]
    polygons.to_file("polygons.gpkg")
    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg").exit_code == 0


def label_raster(name="labels.tif", *, class_names=(), palette=None, dtype="uint8", step=1, **profile):
    """The polygons as a raster: `step`, 2 and 3 times `step` for their classes, 0 elsewhere."""
    values = np.zeros((1, SIDE, SIDE), dtype)
    for index, boxes in enumerate(BOXES.values(), 1):
        for row, col in boxes:
            values[:, row : row + 10, col : col + 10] = step * index
    write_raster(name, values, **profile)
    with rasterio.open(name, "r+") as dataset:
        if class_names:
            dataset.update_tags(CLASS_NAMES=json.dumps(class_names))
        if palette:
            dataset.write_colormap(1, palette)


def test_a_raster_of_labels_brings_its_names_and_colours(co2s, folder):
    names = ["Unclassified", "water", "Forest", "built-up", "ice"]
    label_raster(class_names=names, palette={1: (1, 2, 3), 2: (4, 5, 6), 3: (7, 8, 9)})
    result = co2s("init", "scene.tif", "--labels", "labels.tif", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["attribute"] is None
    assert told["scenes"][0]["labelled"]
    assert told["remarks"] == ["labels.tif: value 0 (Unclassified), 90 % of the pixels, is not labelled"]
    assert told["noun"] == "labels"
    assert [(item["name"], item["color"], item["pixels"]) for item in told["classes"]] == [
        ("water", [1, 2, 3], 600), ("Forest", [4, 5, 6], 600), ("built-up", [7, 8, 9], 500),
    ]  # fmt: skip
    assert all(item["train_pixels"] and item["val_pixels"] for item in told["classes"])
    content = yaml.safe_load((folder / "data.yaml").read_text())
    values = {0: None, 1: "water", 2: "Forest", 3: "built-up"}
    assert content["labeled"] == [{"image": "scene.tif", "labels": "labels.tif", "values": values}]
    assert "600 pixels" in (folder / "data.yaml").read_text()
    assert "labels" in co2s("init", "scene.tif", "--labels", "labels.tif", "--overwrite").stdout.splitlines()[0]


def test_a_zero_without_a_name_is_asked_for(co2s, folder):
    label_raster(dtype="uint16", step=300)
    asked = co2s("init", "scene.tif", "--labels", "labels.tif")
    assert asked.exit_code == 3
    assert 'value 0, 90 % of the pixels, may be a class or mean "not labelled"' in asked.stderr
    assert not (folder / "data.yaml").exists()
    names = {}
    for answer in ("0", "none"):
        told = co2s("init", "scene.tif", "--labels", "labels.tif", "--ignore", answer, "--json", "--overwrite")
        names[answer] = [item["name"] for item in json.loads(told.stdout)["classes"]]
    assert names["0"] == ["class 300", "class 600", "class 900"]
    assert names["none"] == ["class 0", *names["0"]]
    label_raster("declared.tif", dtype="uint16", step=300, nodata=0)
    told = json.loads(co2s("init", "scene.tif", "--labels", "declared.tif", "--json", "--overwrite").stdout)
    assert [item["name"] for item in told["classes"]] == names["0"]
    assert "value 0, 90 % of the pixels, is not labelled" in told["remarks"][0]
    assert "values 300, 600, 900 have no name in the file" in told["remarks"][1]


def test_scenes_of_other_pixels_than_the_raster_are_learnt_from_without_labels(co2s, folder):
    label_raster(nodata=0)
    with rasterio.open("scene.tif") as dataset:
        write_raster("other.tif", dataset.read()[:, 10:], names=dataset.descriptions)
    assert co2s("init", "other.tif", "scene.tif", "--labels", "labels.tif").exit_code == 0
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert [entry["image"] for entry in content["labeled"]] == ["scene.tif"]
    assert content["unlabeled"] == ["other.tif", "scene.tif"]
    alone = co2s("init", "other.tif", "--labels", "labels.tif", "--out", "alone.yaml")
    assert alone.exit_code == 3
    assert "labels.tif: has 128 × 128 pixels, its image 128 × 118" in alone.stderr


def test_what_is_left_out_or_joined_is_told_whatever_its_name(co2s, folder):
    label_raster(class_names=["water", "Forest", "forest ", "built-up"], nodata=0)
    told = json.loads(co2s("init", "scene.tif", "--labels", "labels.tif", "--json").stdout)
    assert [item["name"] for item in told["classes"]] == ["Forest", "built-up"]
    assert "value 0 (water), 90 % of the pixels, is not labelled" in told["remarks"][0]
    assert "of the values 1, 2 some have the same name and are one class" in told["remarks"][1]


def test_ignored_values_may_be_told_one_by_one(co2s, folder):
    label_raster(dtype="uint16", step=300)
    told = co2s("init", "scene.tif", "--labels", "labels.tif", "--ignore", "0", "--ignore", "900", "--json")
    assert [item["name"] for item in json.loads(told.stdout)["classes"]] == ["class 300", "class 600"]


def test_a_raster_of_labels_in_a_folder_of_scenes_is_no_scene(co2s, folder):
    (folder / "set").mkdir()
    label_raster("set/labels.tif", nodata=0)
    (folder / "set" / "scene.tif").write_bytes((folder / "scene.tif").read_bytes())
    assert co2s("init", "set", "--labels", "set/labels.tif").exit_code == 0
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert content["unlabeled"] == ["set/scene.tif"]
    alone = co2s("init", "set/labels.tif", "--labels", "set/labels.tif", "--out", "x.yaml")
    assert alone.exit_code == 3
    assert "is the raster of labels, and no other scene is given" in alone.stderr


@pytest.mark.parametrize(
    ("raster", "words", "code", "said"),
    [
        ({"nodata": 0}, ["--attribute", "class"], 2, "belong to polygons, and labels.tif is a raster"),
        ({"nodata": 0}, ["--ignore", "7"], 2, "--ignore 7: labels.tif has no such value (found: 1, 2, 3)"),
        ({"nodata": 0}, ["--ignore", "1,2"], 3, "names 1 class (values: 1, 2, 3)"),
        ({"dtype": "float32", "step": 0.4}, ["--ignore", "0"], 3, "0.4 is no whole number"),
    ],
)
def test_refusals_of_a_raster(co2s, folder, raster, words, code, said):
    label_raster(**raster)
    result = co2s("init", "scene.tif", "--labels", "labels.tif", *words)
    assert result.exit_code == code, result.output
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["init", "scene.tif", "--labels", "scene.tif"], 3, "3 bands found, a raster of labels has one"),
        (["init", "scene.tif", "--labels", "none.tif"], 3, "No such file"),
        (["init", "scene.tif", "--labels", "data.csv"], 3, "polygons end in .fgb, .geojson"),
        (["init", "scene.tif", "--labels", "polygons.gpkg", "--ignore", "0"], 2, "holds polygons or points"),
        (["init", "scene.tif", "--labels", "polygons.gpkg", "--ignore", "x"], 2, "wants whole numbers such as 0"),
        (["init", "none.tif", "--labels", "polygons.gpkg"], 3, "none.tif: no such file"),
        (["init", "scene.tif"], 2, "--labels is missing"),
        (["init", "--labels", "polygons.gpkg"], 2, "SCENE is missing"),
        (["train", "scene.tif"], 2, "scene.tif: is a scene, a data.yaml is wanted"),
        (["train", "scene.tif", "--labels", "polygons.gpkg"], 2, "--labels wants --out"),
        (["train", "scene.tif", "--attribute", "class", "--out", "run"], 2, "belong to --labels"),
        (["train", "scene.tif", "--ignore", "0", "--out", "run"], 2, "belong to --labels"),
        (["train", "data.yaml", "-b", "1,2", "--out", "run"], 2, "a data.yaml names them with bands:"),
        (["init", "scene.tif", "--labels", "polygons.gpkg", "-b", "4"], 3, "band 4 was asked for"),
        (["init", "scene.tif", "--labels", "polygons.gpkg", "-b", "b08,B04"], 3, "give the band's number in its place"),
        (["train", "whdld", "--labels", "polygons.gpkg", "--root", ".", "--out", "run"], 2, "--root with a published"),
    ],
)
def test_refusals(co2s, folder, words, code, said):
    result = co2s(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr


def test_bands_in_files_of_their_own_are_refused_as_scenes(co2s, folder):
    with rasterio.open("scene.tif") as scene:
        profile, pixels = {**scene.profile, "count": 1}, scene.read()
    for band, values in zip(("B02", "B03", "B04"), pixels, strict=True):
        with rasterio.open(f"{band}.tif", "w", **profile) as file:
            file.write(values, 1)
    result = co2s("init", "B02.tif", "B03.tif", "B04.tif", "--labels", "polygons.gpkg")
    assert result.exit_code == 3
    assert "B02.tif and 2 more: files of one band each on the same grid" in result.stderr
    words = re.search(r"rio (stack .* --output scene.tif)", result.stderr)[1].replace("scene.tif", "stack.tif").split()
    assert CliRunner().invoke(main_group, words).exit_code == 0
    assert co2s("init", "stack.tif", "--labels", "polygons.gpkg").exit_code == 0
    assert len(yaml.safe_load((folder / "data.yaml").read_text())["bands"]) == 3


def test_a_file_that_exists_is_kept(co2s, folder):
    (folder / "data.yaml").write_text("mine")
    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg").exit_code == 4
    assert (folder / "data.yaml").read_text() == "mine"
    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--overwrite").exit_code == 0


def test_shapes_that_are_invalid_or_multiple_count(co2s, folder):
    bow = shapely.Polygon([UTM["transform"] @ xy for xy in ((0, 20), (10, 30), (10, 20), (0, 30))])
    polygons = frame()
    polygons.loc[POLYGONS] = ["water", shapely.MultiPolygon([polygon(118, 0), polygon(118, 20)])]
    polygons.loc[POLYGONS + 1] = ["water", bow]
    polygons.to_file("polygons.gpkg")
    told = json.loads(co2s("init", "scene.tif", "--labels", "polygons.gpkg", "--json").stdout)
    assert told["classes"][2]["pixels"] > 600 + 200


TINY = ("--preset", "tiny", "--steps", 2, *(w for t in ("crop=32", "batch=1", "workers=1") for w in ("--set", t)))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True])
def test_from_a_scene_and_polygons_to_a_map(co2s, folder, at_once):
    if at_once:
        scene = ("scene.tif", "--labels", "polygons.gpkg", "--bands", "3,red")
        words = ("train", *scene, "--out", "runs/a", "--resume", "auto", *TINY)
        result = co2s(*words, "--stop-after", 1)
        for again in (words, ("train", "--resume", "--out", "runs/a")):
            went_on = co2s(*again)
            assert went_on.exit_code == 0, went_on.output
        (folder / "other.tif").write_bytes((folder / "scene.tif").read_bytes())
        other = co2s("train", "other.tif", *words[2:])
        assert (other.exit_code, "differs from the data.yaml" in other.stderr) == (4, True)
    else:
        assert co2s("init", "scene.tif", "--labels", "polygons.gpkg").exit_code == 0
        result = co2s("train", "data.yaml", "--out", "runs/a", *TINY)
    assert result.exit_code == 0, result.output
    data = "runs/a/data.yaml" if at_once else "data.yaml"
    assert read_data(folder / data).bands == (("blue", "red") if at_once else ("red", "green", "blue"))
    assert read_data(folder / data).unlabeled[0].image == str(
        (folder / data).parent / ("../../" * at_once) / "scene.tif"
    )
    told = co2s("predict", "scene.tif", "--model", "runs/a/last.safetensors", "--out", "map.tif")
    assert told.exit_code == 0, told.output
    assert co2s("evaluate", "map.tif", "polygons.gpkg", "--classes", data).exit_code == 0


@pytest.mark.slow
def test_from_a_scene_and_a_raster_to_a_map(co2s, folder):
    label_raster(step=300, dtype="uint16")
    words = ("train", "scene.tif", "--labels", "labels.tif", "--out", "run", *TINY)
    assert co2s(*words).exit_code == 3
    assert co2s(*words, "--ignore", "0").exit_code == 0
    assert co2s("predict", "scene.tif", "--model", "run/last.safetensors", "--out", "map.tif").exit_code == 0
    refused = co2s("evaluate", "map.tif", "labels.tif")
    assert (refused.exit_code, "on the map class 300 has the id 0" in refused.stderr) == (3, True)
    meanings = re.search(r"--values '(.*)'", refused.stderr)[1]
    by_values = co2s("evaluate", "map.tif", "labels.tif", "--values", f"0=none,{meanings}", "--json")
    by_classes = co2s("evaluate", "map.tif", "labels.tif", "--classes", "run/data.yaml", "--json")
    assert by_values.exit_code == by_classes.exit_code == 0, by_classes.output
    assert json.loads(by_values.stdout)["verdict"] == json.loads(by_classes.stdout)["verdict"]


@pytest.mark.slow
def test_from_a_real_scene_and_its_polygons_to_a_map(co2s, shared, tmp_path, monkeypatch):
    source = shared / "data" / "few-landsat"
    if not source.is_dir():
        pytest.skip("no few-landsat here")
    monkeypatch.chdir(tmp_path)
    small = ("--preset", "small", "--steps", 2, "--set", "crop=64", "--set", "batch=1")
    result = co2s("train", source / "scene.tif", "--labels", source / "polygons.gpkg", "--out", "runs/a", *small)
    assert result.exit_code == 0, result.output
    assert "thin: urban: labelled in 2 places" in result.stderr
    result = co2s("predict", source / "scene.tif", "--model", "runs/a/last.safetensors", "--out", "map.tif")
    assert result.exit_code == 0, result.output
