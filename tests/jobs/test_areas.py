"""Points drawn from a map, filled in, and judged: from the command line, against the paper and pyproj."""

import json
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod
from support.rasters import write_raster

from co2s_cli.classes import IGNORE

NAMES = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
PAPER = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
LONLAT = {"crs": "EPSG:4326", "transform": Affine(0.01, 0, 10, 0, -0.01, 60)}


def named(path, image, names=NAMES, **profile):
    write_raster(path, image, nodata=IGNORE, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES=json.dumps(names))
    return path


@pytest.fixture
def class_map(tmp_path):
    """Four classes in the proportions of the paper's example, and nodata."""
    ids = np.repeat([0, 1, 2, 3, IGNORE], [200, 150, 3200, 6450, 100]).astype(np.uint8)
    return named(tmp_path / "map.tif", np.random.default_rng(0).permutation(ids).reshape(100, 101))


def drawn(co2s, class_map, out, *extra):
    result = co2s("sample-points", class_map, "--out", out, *extra)
    assert result.exit_code == 0, result.stderr
    return geopandas.read_file(out)


def filled(frame, path, classes):
    frame["class"] = classes
    frame.to_file(path)
    return path


def judged(co2s, *arguments):
    result = co2s("evaluate", *arguments, "--areas", "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb"])
def test_points_lie_in_the_middle_of_pixels_of_their_class_with_nothing_filled_in(co2s, class_map, tmp_path, suffix):
    frame = drawn(co2s, class_map, tmp_path / f"points{suffix}", "--per-class", "9").to_crs("EPSG:32633")
    assert frame["map_class"].value_counts().to_dict() == dict.fromkeys(NAMES, 9)
    assert frame["class"].isna().all()
    with rasterio.open(class_map) as dataset:
        values = [value for (value,) in dataset.sample(zip(frame.geometry.x, frame.geometry.y, strict=True))]
        cols, rows = ~dataset.transform * (frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
    assert [NAMES[value] for value in values] == frame["map_class"].to_list()
    assert np.allclose((cols % 1, rows % 1), 0.5, atol=1e-3)


def test_the_style_shows_what_is_left_and_its_form_lists_the_classes(co2s, class_map, tmp_path):
    drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "2")
    root = ElementTree.parse(tmp_path / "points.qml").getroot()
    labels = [item.get("label") for item in root.iter("category")]
    assert labels == [*NAMES, "to do"]
    choices = root.find("fieldConfiguration/field[@name='class']/editWidget[@type='ValueMap']")
    assert [item.get("value") for item in choices.iter("Option") if item.get("type") == "QString"] == NAMES


def test_the_same_seed_draws_the_same_points_and_another_one_others(co2s, class_map, tmp_path):
    first = drawn(co2s, class_map, tmp_path / "a.gpkg")
    assert first.equals(drawn(co2s, class_map, tmp_path / "b.gpkg"))
    assert not first.equals(drawn(co2s, class_map, tmp_path / "c.gpkg", "--seed", "1"))


def test_points_that_hold_work_are_not_overwritten_by_chance(co2s, class_map, tmp_path):
    drawn(co2s, class_map, tmp_path / "points.gpkg")
    result = co2s("sample-points", class_map, "--out", tmp_path / "points.gpkg")
    assert result.exit_code == 4
    assert "--overwrite" in result.stderr


def test_formats_that_nobody_edits_and_maps_of_nodata_are_refused(co2s, tmp_path):
    blank = named(tmp_path / "blank.tif", np.full((8, 8), IGNORE, np.uint8))
    assert co2s("sample-points", blank, "--out", tmp_path / "a.geojsonl").exit_code == 2
    result = co2s("sample-points", blank, "--out", tmp_path / "a.gpkg")
    assert result.exit_code == 3
    assert "nodata" in result.stderr


def test_the_papers_example_through_files(co2s, class_map, tmp_path):
    """Its points on a map with its proportions: the shares are the paper's, the areas those of 10,000 pixels."""
    with rasterio.open(class_map) as dataset:
        labels, transform = dataset.read(1), dataset.transform
    points, seen = [], []
    for class_id, row in enumerate(PAPER):
        rows, cols = np.nonzero(labels == class_id)
        # a small map has fewer pixels of a class than the paper points: some are met twice, as the paper's may
        points += [transform @ (cols[i % len(cols)] + 0.5, rows[i % len(cols)] + 0.5) for i in range(row.sum())]
        seen += [NAMES[value] for value in np.repeat(np.arange(4), row)]
    frame = geopandas.GeoDataFrame({"seen": seen}, geometry=shapely.points(points), crs="EPSG:32633")
    frame.to_crs("EPSG:4326").to_file(tmp_path / "points.geojson")
    found = judged(co2s, class_map, tmp_path / "points.geojson", "--attribute", "seen", "--out", tmp_path / "report")
    verdict = found["verdict"]
    assert [round(item["share"]["value"] * 900_000) for item in verdict["classes"]] == [21158, 11686, 285770, 581386]
    assert [round(item["share"]["margin"] * 900_000) for item in verdict["classes"]] == [6158, 3756, 15510, 16282]
    assert verdict["confusion"] == PAPER.tolist()
    assert sum(item["mapped"] for item in verdict["classes"]) == pytest.approx(10_000 * 100 / 10_000, rel=2e-3)
    assert "which map" in found["remarks"][0]
    report = (tmp_path / "report" / "report.md").read_text()
    assert "94.7 ± 1.8 %" in report
    assert json.loads((tmp_path / "report" / "report.json").read_text())["accuracy"] == verdict["accuracy"]


def test_areas_of_a_map_in_degrees_are_those_of_pyproj(co2s, tmp_path):
    labels = np.repeat(np.arange(2, dtype=np.uint8), 100)[:, None].repeat(50, axis=1)
    class_map = named(tmp_path / "map.tif", labels, NAMES[:2], **LONLAT)
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "30")
    points = filled(frame, tmp_path / "seen.gpkg", frame["map_class"])
    verdict = judged(co2s, class_map, points)["verdict"]
    geod = Geod(ellps="WGS84")
    for item, (south, north) in zip(verdict["classes"], ((59, 60), (58, 59)), strict=True):
        edges = np.linspace(10, 10.5, 51)  # a parallel is no geodesic: it is followed in small steps
        lon, lat = np.concatenate([edges, edges[::-1]]), np.repeat([south, north], 51)
        assert item["mapped"] == pytest.approx(geod.polygon_area_perimeter(lon, lat)[0] / 1e4, rel=1e-4)
        assert item["area"] == {"value": pytest.approx(item["mapped"]), "margin": 0}
    assert verdict["accuracy"]["value"] == 1


def test_without_crs_areas_are_pixels(co2s, tmp_path):
    class_map = write_raster(tmp_path / "map.tif", np.kron([[0, 1]], np.ones((20, 20))).astype(np.uint8), bare=True)
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "5")
    verdict = judged(co2s, class_map, filled(frame, tmp_path / "seen.gpkg", frame["map_class"]))["verdict"]
    assert verdict["unit"] == "pixels"
    assert [item["mapped"] for item in verdict["classes"]] == [400, 400]


def test_points_without_a_class_or_beside_the_map_are_left_out_and_told(co2s, class_map, tmp_path):
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "5").drop(columns="map_class")
    frame.loc[0, "geometry"] = shapely.Point(0, 0)
    classes = frame["class"].astype(object)
    classes[:] = [3.0] * 18 + [None, " "]
    found = judged(co2s, class_map, filled(frame, tmp_path / "seen.gpkg", [str(NAMES[3])] * 18 + [None, " "]))
    assert found["verdict"]["points"] == 17
    assert found["remarks"][:2] == [
        "1 of 20 points lie where the map has no class: left out",
        "2 of 20 points have no class yet: left out; the others must be a random part of all",
    ]


def test_the_table_has_areas_with_margins_and_a_dash_where_there_is_none(co2s, class_map, tmp_path):
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "5")
    seen = filled(frame, tmp_path / "seen.gpkg", np.where(frame["map_class"] == NAMES[0], NAMES[1], frame["map_class"]))
    result = co2s("evaluate", class_map, seen, "--areas")
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if line.strip().startswith(NAMES[0]))
    assert row.split()[-2] == "–"  # its producer's accuracy: nobody saw it
    assert "overall accuracy  98.0 ± 0.0 %" in result.stdout


def test_a_sample_of_another_map_is_refused(co2s, class_map, tmp_path):
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "5")
    points = filled(frame, tmp_path / "seen.gpkg", frame["map_class"])
    with rasterio.open(class_map) as dataset:
        labels = dataset.read(1)
    other = named(tmp_path / "other.tif", labels[::-1].copy())
    result = co2s("evaluate", other, points, "--areas")
    assert result.exit_code == 3
    assert "another map" in result.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.assign(**{"class": "lava"}), "'lava' is no class"),
        (lambda frame: frame.assign(**{"class": NAMES[0]})[frame["map_class"] != NAMES[2]], "stable forest"),
        (lambda frame: frame.assign(geometry=frame.buffer(3)), "a file of points only"),
        (lambda frame: frame.drop(columns="class"), "no attribute 'class'"),
    ],
)
def test_samples_that_do_not_serve_are_refused(co2s, class_map, tmp_path, change, words):
    frame = drawn(co2s, class_map, tmp_path / "points.gpkg", "--per-class", "3")
    change(frame).to_file(tmp_path / "seen.gpkg")
    result = co2s("evaluate", class_map, tmp_path / "seen.gpkg", "--areas")
    assert result.exit_code == 3
    assert words in result.stderr


def test_flags_of_other_ways_to_judge_are_refused_beside_areas(co2s, class_map, tmp_path):
    result = co2s("evaluate", class_map, tmp_path / "points.gpkg", "--areas", "--missing", "wrong")
    assert result.exit_code == 2
    assert "missing: not with --areas" in result.stderr


def test_a_map_without_names_takes_those_of_a_data_yaml(co2s, tmp_path):
    labels = np.kron([[0, 1]], np.ones((20, 20))).astype(np.uint8)
    class_map = write_raster(tmp_path / "map.tif", labels)
    points = [shapely.Point(500_005 + 10 * i, 5_499_995 - 10 * i) for i in range(5)] + [
        shapely.Point(500_205 + 10 * i, 5_499_995 - 10 * i) for i in range(5)
    ]
    frame = geopandas.GeoDataFrame({"class": ["a"] * 5 + ["b"] * 5}, geometry=points, crs="EPSG:32633")
    frame.to_file(tmp_path / "points.gpkg")
    (tmp_path / "data.yaml").write_text(
        "classes: [a, b]\nlabeled: [{image: x.tif, labels: y.tif}]\nunlabeled: [x.tif]\nval: 0.2\n"
    )
    found = judged(co2s, class_map, tmp_path / "points.gpkg", "--classes", tmp_path / "data.yaml")
    assert [(item["name"], item["users"]["value"]) for item in found["verdict"]["classes"]] == [("a", 1), ("b", 1)]
