"""Labels by window, from rasters and from polygons, and why some are refused."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize
from support.rasters import UTM, noise, write_raster

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.labels import open_labels
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

CLASSES = ClassMap.of(["water", "road", "roof"])
WINDOW = Window(3, 5, 10, 12)


@pytest.fixture
def grid(tmp_path):
    return Scene.open(str(write_raster(tmp_path / "scene.tif", noise((3, 30, 40))))).grid


def read(path, grid, window=WINDOW, **options):
    options = {"attribute": "class", "values": {}, **options}
    with open_labels(path, grid, CLASSES, **options).reader() as reader:
        return reader.read(window)


def test_a_raster_gives_its_ids(tmp_path, grid):
    ids = np.random.default_rng(0).choice([0, 1, 2, IGNORE], (30, 40)).astype(np.uint8)
    path = write_raster(tmp_path / "labels.tif", ids)
    np.testing.assert_array_equal(read(path, grid), ids[WINDOW.slices])


@pytest.mark.parametrize("nodata", [None, float("nan"), -9999])
def test_whole_numbers_in_floats_are_labels_and_nan_is_none(tmp_path, grid, nodata):
    ids = np.random.default_rng(0).choice([0, 1, 2, IGNORE], (30, 40)).astype(np.uint8)
    void = -9999 if nodata == -9999 else np.nan
    path = write_raster(tmp_path / "labels.tif", np.where(ids == IGNORE, np.float32(void), ids), nodata=nodata)
    np.testing.assert_array_equal(read(path, grid), ids[WINDOW.slices])
    np.testing.assert_array_equal(read(path, grid, values={0: 0, 1: 1, 2: 2}), ids[WINDOW.slices])


def test_values_may_mean_classes_by_id_name_or_nothing(tmp_path, grid):
    raw = np.random.default_rng(0).choice([0, 1, 6, 255], (30, 40)).astype(np.uint8)
    path = write_raster(tmp_path / "labels.tif", raw)
    found = read(path, grid, values={0: None, 1: 0, 6: "roof"})
    expected = np.select([raw == 1, raw == 6], [0, 2], IGNORE)
    np.testing.assert_array_equal(found, expected[WINDOW.slices])


def test_published_codes_from_one_become_ids_from_zero(tmp_path, grid):
    raw = np.full((30, 40), 255, np.uint8)
    raw[0, :4] = [0, 1, 3, 255]
    path = write_raster(tmp_path / "labels.tif", raw)
    values = {0: None, 1: 0, 2: 1, 3: 2}
    assert read(path, grid, Window(0, 0, 1, 4), values=values).tolist() == [[255, 0, 2, 255]]


def test_nodata_is_not_labelled(tmp_path, grid):
    path = write_raster(tmp_path / "labels.tif", np.full((30, 40), 77, np.uint8), nodata=77)
    assert (read(path, grid) == IGNORE).all()


@pytest.mark.parametrize(
    ("raster", "profile", "match"),
    [
        (np.full((30, 40), 7, np.uint8), {}, r"value 7 is no class; known are 0 to 2 \(water, road, roof\) and 255"),
        (np.zeros((30, 41), np.uint8), {}, "41 × 30 pixels, its image 40 × 30"),
        (np.zeros((30, 40), np.complex64), {}, "whole numbers"),
        (np.full((30, 40), 1.5, np.float32), {}, "value 1.5 is no class"),
        (
            np.zeros((30, 40), np.uint8),
            {"transform": UTM["transform"] @ UTM["transform"].translation(2, 0)},
            "2 pixels",
        ),
        (np.zeros((30, 40), np.uint8), {"crs": "EPSG:32632"}, "EPSG:32632, its image in EPSG:32633"),
    ],
)
def test_a_raster_that_does_not_fit_is_refused(tmp_path, grid, raster, profile, match):
    path = write_raster(tmp_path / "labels.tif", raster, **profile)
    with pytest.raises(InputError, match=match):
        read(path, grid)


def polygons(path, grid, values, *, crs="EPSG:32633", attribute="class"):
    boxes = [shapely.box(*grid.at(4 + 7 * i, 12), *grid.at(10 + 7 * i, 4)) for i in range(len(values))]
    gpd.GeoDataFrame({attribute: values}, geometry=boxes, crs="EPSG:32633").to_crs(crs).to_file(path)
    return path, boxes


@pytest.mark.parametrize("values", [["water", "roof", "road"], [0, 2, 1]])
def test_polygons_cover_the_pixels_whose_centres_they_hold(tmp_path, grid, values):
    path, boxes = polygons(tmp_path / "few.gpkg", grid, values)
    pairs = list(zip(boxes, [0, 2, 1], strict=True))
    whole = rasterize(pairs, out_shape=(30, 40), transform=grid.transform, fill=IGNORE, dtype=np.uint8)
    np.testing.assert_array_equal(read(path, grid), whole[WINDOW.slices])


def test_points_label_one_pixel_each_in_any_crs_and_the_later_one_wins(tmp_path, grid):
    places = {(13.5, 4.5): "water", (13.1, 9.9): "roof", (20.5, 12.5): "road", (20.9, 12.2): "water"}
    points = [shapely.Point(*grid.at(col, row)) for col, row in places]
    frame = gpd.GeoDataFrame({"class": list(places.values())}, geometry=points, crs="EPSG:32633")
    frame.to_crs(4326).to_file(tmp_path / "points.gpkg")
    expected = np.full((30, 40), IGNORE, np.uint8)
    expected[4, 13], expected[9, 13], expected[12, 20] = 0, 2, 0
    np.testing.assert_array_equal(read(tmp_path / "points.gpkg", grid, Window(0, 0, 30, 40)), expected)


def test_polygons_come_in_any_crs(tmp_path, grid):
    here, _ = polygons(tmp_path / "a.gpkg", grid, ["water", "roof"])
    there, _ = polygons(tmp_path / "b.gpkg", grid, ["water", "roof"], crs="EPSG:4326")
    assert (read(here, grid) == read(there, grid)).mean() > 0.98


@pytest.mark.parametrize(
    ("values", "attribute", "match"),
    [(["water", "lava"], "class", "'lava' is no class"), ([0], "kind", "no attribute")],
)
def test_polygons_that_mean_nothing_are_refused(tmp_path, grid, values, attribute, match):
    path, _ = polygons(tmp_path / "few.gpkg", grid, values, attribute=attribute)
    with pytest.raises(InputError, match=match):
        read(path, grid)


@pytest.mark.parametrize("values", [{"0": "none", "1": "0", "6": "roof"}, {0: None, "1": "water", 6: "2"}])
def test_values_written_as_text_mean_the_numbers_they_show(tmp_path, grid, values):
    raw = np.random.default_rng(0).choice([0, 1, 6, 255], (30, 40)).astype(np.uint8)
    path = write_raster(tmp_path / "labels.tif", raw)
    expected = np.select([raw == 1, raw == 6], [0, 2], IGNORE)
    np.testing.assert_array_equal(read(path, grid, values=values), expected[WINDOW.slices])


@pytest.mark.parametrize("attributes", [[0, 4, 6], ["0", "4", "6"]])
@pytest.mark.parametrize("values", [{0: None, 4: "road", 6: "roof"}, {"0": "none", "4": "1", "6": 2}])
def test_attributes_and_values_match_as_text_and_as_numbers(tmp_path, grid, attributes, values):
    polygons(tmp_path / "labels.gpkg", grid, attributes)
    labels = read(tmp_path / "labels.gpkg", grid, Window(0, 0, 30, 40), values=values)
    assert set(np.unique(labels)) == {1, 2, IGNORE}


def test_one_value_has_one_meaning_and_names_are_for_polygons(tmp_path, grid):
    path = write_raster(tmp_path / "labels.tif", np.zeros((30, 40), np.uint8))
    with pytest.raises(InputError, match="values give 0 two meanings"):
        read(path, grid, values={0: "water", "0": "road"})
    with pytest.raises(InputError, match="values name lake, a label raster holds numbers"):
        read(path, grid, values={"lake": "water"})
