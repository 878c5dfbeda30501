"""Colours and names of a class raster as GDAL and QGIS read them: palette, `.aux.xml`, `.qml`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from co2s_cli.classes import ClassMap


def palette(classes: ClassMap) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a class raster."""
    return {value: (*color, 255) for value, color in enumerate(classes.colors)}


def sidecars(path: Path, classes: ClassMap) -> dict[Path, str]:
    """What belongs beside the class raster `path`, and its text: `path.aux.xml`, and `.qml` in place of the suffix."""
    return {path.with_name(f"{path.name}.aux.xml"): aux_xml(classes), path.with_suffix(".qml"): qml(classes)}


def aux_xml(classes: ClassMap) -> str:
    """GDAL's auxiliary metadata: the name of each value of band 1."""
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in classes.names:
        ET.SubElement(names, "Category").text = name
    return _text(root)


def qml(classes: ClassMap) -> str:
    """A QGIS layer style: paletted values with colour and label."""
    root = ET.Element("qgis", version="3.16", styleCategories="Symbology")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"),
        "rasterrenderer",
        type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor="",
    )  # fmt: skip
    ET.SubElement(renderer, "rasterTransparency")
    entries = ET.SubElement(renderer, "colorPalette")
    for value, item in enumerate(classes.classes):
        color = "#{:02x}{:02x}{:02x}".format(*item.color)
        ET.SubElement(entries, "paletteEntry", value=str(value), color=color, alpha="255", label=item.name)
    ET.SubElement(root, "blendMode").text = "0"
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
