"""Names and colours reach GDAL and QGIS."""

from xml.etree import ElementTree as ET

import numpy as np
from rasterio.shutil import copy as copy_raster
from support.rasters import write_raster

from co2s_cli.classes import ClassMap
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
