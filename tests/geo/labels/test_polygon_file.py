"""What a file of polygons holds: attributes that can name classes, overlaps, and where the polygons lie."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.crs import CRS
from support.polygons import frame, polygon
from support.rasters import UTM

from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.polygon_file import (
    attributes_of,
    in_pixels,
    intersects_grid,
    no_attribute,
    only_classes,
    other_crs,
    overlaps,
)
from co2s_cli.geo.read.features import read_polygons, read_shapes, shape_noun

GRID = Grid(128, 128, UTM["transform"], CRS.from_string(UTM["crs"]))


def test_attributes_tell_their_values_and_whether_they_fit():
    count = len(frame())
    polygons = frame(
        id=list(range(count)),
        code=[1, 2, *[None] * (count - 3), 2],
        note=["", " ", *["seen"] * (count - 2)],
        area=[0.5] * count,
        date=pd.to_datetime(["2020-01-01"] * count),
    )
    by_name = {item.name: item for item in attributes_of(polygons)}
    assert by_name["class"].values == ("Forest", "built-up", "water")
    assert by_name["code"].kind == "whole numbers"
    assert by_name["code"].values == (1, 2)
    assert by_name["code"].polygons == 3
    assert {name for name, item in by_name.items() if item.fits} == {"class", "code"}
    assert by_name["note"].summary() == "note (1 value)"
    assert by_name["class"].summary() == "class (3 values, fits)"


def test_the_hint_names_what_most_likely_holds_the_classes():
    polygons = frame()
    count = len(polygons)
    polygons.insert(0, "red", [900, 900, *range(count - 2)])
    polygons["owner"] = [f"owner {index // 2}" for index in range(count)]
    polygons = polygons.rename(columns={"class": "cover"})
    assert [item.name for item in attributes_of(polygons) if item.fits] == ["red", "cover", "owner"]
    error = no_attribute("p.gpkg", polygons, "class")
    assert error.hint == "choose another attribute: --attribute cover, or attribute: cover in data.yaml"


def test_a_name_and_a_code_that_divide_the_polygons_alike_are_one_choice():
    polygons = frame().rename(columns={"class": "Classname"})
    codes = {"water": 11, "Forest": 42, "built-up": 23}
    polygons.insert(0, "Classvalue", [codes[name] for name in polygons["Classname"]])
    assert only_classes(polygons).name == "Classname"
    assert only_classes(polygons[["Classvalue", "geometry"]]).name == "Classvalue"
    polygons["RED"], polygons["Count"] = 7, range(len(polygons))
    assert only_classes(polygons).name == "Classname"
    assert only_classes(polygons.assign(owner=polygons["Classname"])) is None
    polygons.loc[0, "Classvalue"] = 42
    assert only_classes(polygons) is None
    polygons.loc[0, "Classvalue"] = None
    assert only_classes(polygons) is None
    assert only_classes(polygons[["geometry"]]) is None


def test_overlaps_are_those_of_different_classes_the_largest_first():
    shapes = [
        shapely.box(0, 0, 10, 10),
        shapely.box(8, 0, 18, 10),
        shapely.box(0, 5, 10, 15),
        shapely.box(18, 0, 20, 10),
    ]
    pairs = overlaps(shapes, [0, 1, 0, 0])
    assert [(pair.first, pair.second, pair.area) for pair in pairs] == [(0, 1, 20.0), (1, 2, 10.0)]
    assert pairs[0].share == pytest.approx(0.2)


def test_polygons_come_in_pixels_whatever_their_crs():
    shapes = in_pixels("p.gpkg", frame().to_crs(4326), GRID)
    np.testing.assert_allclose(shapes[0].bounds, (4, 4, 14, 14), atol=1e-3)
    assert other_crs(frame(), GRID) is None
    assert other_crs(frame().to_crs(4326), GRID) == "EPSG:4326"
    assert other_crs(frame(), Grid(5, 5, UTM["transform"])) is None


def test_a_point_is_the_pixel_that_it_lies_in():
    (x, y), (right, bottom) = (UTM["transform"] @ xy for xy in ((3.9, 5.0), (7.5, 5.5)))
    points = geopandas.GeoDataFrame(
        geometry=[shapely.Point(x, y), shapely.MultiPoint([(x, y), (right, bottom)])], crs=UTM["crs"]
    )
    one, two = in_pixels("p.gpkg", points, GRID)
    assert one.equals(shapely.box(3, 5, 4, 6))
    assert two.equals(shapely.union_all([shapely.box(3, 5, 4, 6), shapely.box(7, 5, 8, 6)]))


def test_touching_are_those_that_share_ground_with_the_grid():
    shapes = in_pixels(
        "p.gpkg", geopandas.GeoDataFrame(geometry=[polygon(0, 0), polygon(200, 0)], crs=UTM["crs"]), GRID
    )
    assert intersects_grid(shapes, GRID).tolist() == [True, False]
    pixels = shapely.box([-1, 0, 127, 128], [0, 127, 127, 5], [0, 1, 128, 129], [1, 128, 128, 6])
    assert intersects_grid(pixels, GRID).tolist() == [False, True, True, False]


def test_what_is_neither_polygon_nor_point_is_left_out_with_a_warning(tmp_path, caplog):
    mixed = [polygon(0, 0), shapely.Point(400000, 5000000), shapely.LineString([(0, 0), (1, 1)]), None]
    frame = geopandas.GeoDataFrame({"class": list("abcd")}, geometry=mixed, crs=UTM["crs"])
    frame.to_file(tmp_path / "mixed.geojson")
    shapes = read_shapes(tmp_path / "mixed.geojson")
    assert list(shapes["class"]) == ["a", "b"]
    assert shape_noun(shapes) == "polygons and points"
    assert shape_noun(shapes[:1]) == "polygons"
    assert shape_noun(shapes[1:]) == "points"
    assert "1 of 4 features are no polygon or point and are left out (LineString)" in caplog.text
    assert "1 of 4 features have no geometry and are left out" in caplog.text
    assert list(read_polygons(tmp_path / "mixed.geojson")["class"]) == ["a"]
    assert "2 of 4 features are no polygon and are left out (LineString, Point)" in caplog.text
    frame[3:].to_file(tmp_path / "none.geojson")
    with pytest.raises(InputError, match=r"holds no polygon or point \(1 of 1 features have no geometry\)"):
        read_shapes(tmp_path / "none.geojson")


def test_what_holds_no_polygon_is_refused(tmp_path):
    points = geopandas.GeoDataFrame({"class": ["water"]}, geometry=[shapely.Point(0, 0)], crs=UTM["crs"])
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(InputError, match=r"holds no polygon \(found: Point\)"):
        read_polygons(tmp_path / "points.gpkg")
    with pytest.raises(InputError, match="no such file"):
        read_polygons(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no database")
    with pytest.raises(InputError, match="cannot be read as polygons"):
        read_polygons(tmp_path / "text.gpkg")
