"""Styles of class rasters and of polygons."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rasterio.shutil import copy as copy_raster
from support.rasters import write_raster

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.geo.write import styles

CLASSES = ClassMap.of(["water", {"name": "roofs & <roads>", "color": [255, 0, 16]}, "Wälder"])


def test_gdal_reads_the_category_names(tmp_path):
    path = write_raster(tmp_path / "map.tif", np.zeros((1, 4, 4), np.uint8))
    for target, text in styles.sidecars(path, CLASSES).items():
        target.write_text(text, encoding="utf-8")
    copy_raster(str(path), str(tmp_path / "map.vrt"), driver="VRT")  # GDAL writes out what it read
    found = [item.text for item in ET.parse(tmp_path / "map.vrt").iter("Category")]
    assert found == list(CLASSES.names)


def test_the_qgis_style_is_a_paletted_renderer_with_an_entry_per_class():
    root = ET.fromstring(styles.raster_qml(CLASSES))
    renderer = root.find("pipe/rasterrenderer")
    assert root.tag == "qgis"
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = [(item.get("value"), item.get("color"), item.get("label")) for item in renderer.iter("paletteEntry")]
    assert entries[1] == ("1", "#ff0010", "roofs & <roads>")
    assert [label for _, _, label in entries] == list(CLASSES.names)


POLYGON_CLASSES = {0: LandClass("water & ice", (0, 0, 255)), 3: LandClass("wood", (1, 2, 3))}


@pytest.fixture
def written(tmp_path):
    styles.write_polygon_style(tmp_path / "map.qml", POLYGON_CLASSES)
    return tmp_path / "map.qml"


def test_each_class_has_a_category_and_a_fill_of_its_colour(written):
    root = ET.parse(written).getroot()
    renderer = root.find("renderer-v2")
    assert (root.tag, renderer.get("type"), renderer.get("attr")) == ("qgis", "categorizedSymbol", "class_id")
    assert root.findtext("layerGeometryType") == "2"
    symbols = {symbol.get("name"): symbol for symbol in renderer.iterfind("symbols/symbol")}
    found = {}
    for category in renderer.iterfind("categories/category"):
        layer = symbols[category.get("symbol")].find("layer")
        color = layer.find("Option/Option[@name='color']").get("value")
        assert color == layer.find("prop[@k='color']").get("v")
        found[int(category.get("value"))] = (category.get("label"), color)
    assert found == {0: ("water & ice", "0,0,255,255"), 3: ("wood", "1,2,3,255")}


def test_the_doctype_is_the_one_that_qgis_writes(written):
    assert written.read_text().startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")


def test_the_style_of_a_raster_in_the_same_file_stays(tmp_path):
    path = tmp_path / "map.qml"
    path.write_text(styles.raster_qml(ClassMap.of(["water", "wood"])))
    assert not styles.holds_polygon_style(path)
    styles.write_polygon_style(path, POLYGON_CLASSES)
    styles.write_polygon_style(path, POLYGON_CLASSES)
    root = ET.parse(path).getroot()
    assert len(root.findall("pipe/rasterrenderer")) == len(root.findall("renderer-v2")) == 1
    assert styles.holds_polygon_style(path)


def test_what_is_no_style_counts_as_taken(tmp_path):
    path = tmp_path / "map.qml"
    assert not styles.holds_polygon_style(path)
    path.write_text("import QtQuick 2.0")
    assert styles.holds_polygon_style(path)
