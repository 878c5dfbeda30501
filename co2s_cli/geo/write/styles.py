"""Names and colours of classes as GDAL and QGIS read them: palette, `.aux.xml`, and `.qml` of rasters and polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.files import appearing

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_TO_DO = "255,0,255,255"
"""Outline of what is to be filled in: no imagery has much magenta."""
_OURS = {"version": "3.16"}
"""What the root of each of our styles says; a QGIS says more: 3.16.16-Hannover."""
_RASTER_TAGS = ("pipe", "pipe-data-defined-properties")


def palette(classes: ClassMap) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a class raster."""
    return {value: (*color, 255) for value, color in enumerate(classes.colors)}


def sidecars(path: Path, classes: ClassMap) -> dict[Path, str]:
    """What belongs beside the class raster `path`, and its text: `path.aux.xml`, and `.qml` in place of the suffix."""
    return {path.with_name(f"{path.name}.aux.xml"): aux_xml(classes), path.with_suffix(".qml"): raster_qml(classes)}


def aux_xml(classes: ClassMap) -> str:
    """GDAL's auxiliary metadata: the name of each value of band 1."""
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in classes.names:
        ET.SubElement(names, "Category").text = name
    return _text(root)


def raster_qml(classes: ClassMap) -> str:
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
    return _DOCTYPE + _text(root)


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def is_ours(path: Path) -> bool:
    """Whether a style was written here: QGIS puts its own version into each that it saves."""
    root = _read(path)
    return root is not None and root.attrib.items() >= _OURS.items()


def holds_polygon_style(path: Path) -> bool:
    """Whether a file exists that holds more than the style of a raster of the same name."""
    if not path.exists():
        return False
    root = _read(path)
    return root is None or root.find("renderer-v2") is not None


def write_polygon_style(path: Path, classes: dict[int, LandClass]) -> None:
    """Write a `.qml` for polygons; a raster's style in the same file stays: QGIS looks for both under one name."""
    old = _read(path)
    raster_style = [] if old is None else [child for child in old if child.tag in _RASTER_TAGS]
    with appearing(path) as temporary:
        temporary.write_text(polygon_qml(classes, raster_style), encoding="utf-8")


def polygon_qml(classes: dict[int, LandClass], raster_style: Iterable[ET.Element] = ()) -> str:
    """A categorized renderer over the field `class_id`, one plain fill a class in its colour."""
    root = ET.Element("qgis", version="3.16", styleCategories="Symbology")
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol", attr="class_id", symbollevels="0", enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, (value, item) in enumerate(classes.items()):
        ET.SubElement(
            categories, "category", value=str(value), type="integer", symbol=str(number), label=item.name, render="true"
        )
        symbols.append(_fill(str(number), item))
    root.extend(raster_style)
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = "2"  # polygons
    return _DOCTYPE + _text(root)


def point_qml(classes: ClassMap, attribute: str) -> str:
    """Points to be filled in: hollow until `attribute` holds a class, then in its colour; a form with the classes."""
    return _form_qml(classes, attribute, lambda name, color: _symbol("marker", name, "SimpleMarker", _marker(color)), 0)


def box_qml(classes: ClassMap, attribute: str) -> str:
    """Boxes to be filled in: an outline until `attribute` holds a class, then filled in its colour; the same form."""
    return _form_qml(classes, attribute, lambda name, color: _symbol("fill", name, "SimpleFill", _box(color)), 2)


def _form_qml(
    classes: ClassMap, attribute: str, symbol: Callable[[str, tuple[int, int, int, int]], ET.Element], geometry: int
) -> str:
    """One symbol a class, given its name and colour, and one of alpha 0 for what is to do; QGIS' number of geometry."""
    root = ET.Element("qgis", version="3.16", styleCategories="Symbology|Forms")
    _add_form(root, classes, attribute)
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol", attr=attribute, symbollevels="0", enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    colours = [(item.name, item.name, (*item.color, 255)) for item in classes.classes]
    for number, (value, label, color) in enumerate([*colours, ("", "to do", (255, 255, 255, 0))]):
        ET.SubElement(
            categories, "category", value=value, type="string", symbol=str(number), label=label, render="true"
        )
        symbols.append(symbol(str(number), color))
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = str(geometry)  # 0: points, 2: polygons
    return _DOCTYPE + _text(root)


def _box(color: tuple[int, int, int, int]) -> dict[str, str]:
    outline = _TO_DO if color[3] == 0 else ",".join(map(str, color))
    fill = ",".join(map(str, (*color[:3], color[3] // 2)))
    return {"color": fill, "style": "solid", "outline_style": "solid", "outline_color": outline, "outline_width": "0.5"}


def _marker(color: tuple[int, int, int, int]) -> dict[str, str]:
    ring = _TO_DO if color[3] == 0 else "0,0,0,255"
    return {
        "name": "circle",
        "color": ",".join(map(str, color)),
        "outline_color": ring,
        "outline_width": "0.5",
        "size": "3",
    }


def _add_form(root: ET.Element, classes: ClassMap, attribute: str) -> None:
    """A list of the classes to choose from, for one field."""
    field = ET.SubElement(ET.SubElement(root, "fieldConfiguration"), "field", name=attribute)
    config = ET.SubElement(ET.SubElement(field, "editWidget", type="ValueMap"), "config")
    choices = ET.SubElement(ET.SubElement(config, "Option", type="Map"), "Option", type="List", name="map")
    for name in classes.names:
        ET.SubElement(ET.SubElement(choices, "Option", type="Map"), "Option", type="QString", name=name, value=name)


def _fill(name: str, item: LandClass) -> ET.Element:
    """A plain fill; no outline, so that neighbours meet as pixels do."""
    color = ",".join(map(str, (*item.color, 255)))
    return _symbol("fill", name, "SimpleFill", {"color": color, "style": "solid", "outline_style": "no"})


def _symbol(kind: str, name: str, layer_class: str, properties: Mapping[str, str]) -> ET.Element:
    symbol = ET.Element("symbol", type=kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": layer_class, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
        ET.SubElement(layer, "prop", k=key, v=value)  # QGIS before 3.26 reads these
    return symbol


def _read(path: Path) -> ET.Element | None:
    """The root of a style file; None where it is none."""
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        return ET.parse(path).getroot()  # noqa: S314 - no external entities are resolved
    except (ET.ParseError, UnicodeDecodeError):
        return None
