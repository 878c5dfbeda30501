"""Names and colours of classes in the forms of GDAL and QGIS: palette, `.aux.xml`, `.qml` of rasters and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.files import atomic_file

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_TO_DO = "255,0,255,255"
"""Outline colour of features without a class yet: magenta, which is rare in imagery."""
_OURS = {"version": "3.16"}
"""Attributes of the root of styles written here; QGIS itself writes a longer version, such as 3.16.16-Hannover."""
_RASTER_TAGS = ("pipe", "pipe-data-defined-properties")
"""Elements of a `.qml` that hold the style of a raster."""


def palette(classes: ClassMap) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a class raster: red, green, blue, opacity of each class id."""
    return {value: (*color, 255) for value, color in enumerate(classes.colors)}


def sidecars(path: Path, classes: ClassMap) -> dict[Path, str]:
    """Paths and texts of the sidecar files of the class raster `path`: `path.aux.xml`, and `.qml` for the suffix."""
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
    """Whether co2s has written a style; QGIS replaces the version when it saves one."""
    root = _read(path)
    return root is not None and root.attrib.items() >= _OURS.items()


def holds_polygon_style(path: Path) -> bool:
    """Whether a file exists that is no style, or that holds a style of polygons."""
    if not path.exists():
        return False
    root = _read(path)
    return root is None or root.find("renderer-v2") is not None


def write_polygon_style(path: Path, classes: dict[int, LandClass]) -> None:
    """Write a `.qml` for polygons and keep a raster's style in the same file, since QGIS uses one name for both."""
    old = _read(path)
    raster_style = [] if old is None else [child for child in old if child.tag in _RASTER_TAGS]
    with atomic_file(path) as temporary:
        temporary.write_text(polygon_qml(classes, raster_style), encoding="utf-8")


def polygon_qml(classes: dict[int, LandClass], raster_style: Iterable[ET.Element] = ()) -> str:
    """A style of polygons: a categorised renderer by the field `class_id`, with plain fills in the classes' colours."""
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
    """A style and a form for points: hollow until `attribute` has a class, then in its colour."""
    return _form_qml(classes, attribute, lambda name, color: _symbol("marker", name, "SimpleMarker", _marker(color)), 0)


def box_qml(classes: ClassMap, attribute: str) -> str:
    """A style and a form for boxes: outlines until `attribute` has a class, then filled in its colour."""
    return _form_qml(classes, attribute, lambda name, color: _symbol("fill", name, "SimpleFill", _box(color)), 2)


def _form_qml(
    classes: ClassMap, attribute: str, symbol: Callable[[str, tuple[int, int, int, int]], ET.Element], geometry: int
) -> str:
    """A style and a form for features to which a person assigns classes.

    Args:
        classes: Classes from which the person chooses.
        attribute: Field with the name of the class.
        symbol: Makes the symbol with a given name and colour; alpha 0 stands for features without a class.
        geometry: QGIS's number of the geometry type: 0 for points, 2 for polygons.
    """
    root = ET.Element("qgis", version="3.16", styleCategories="Symbology|Forms")
    _add_form(root, classes, attribute)
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol", attr=attribute, symbollevels="0", enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    entries = [(item.name, item.name, (*item.color, 255)) for item in classes.classes]
    for number, (value, label, color) in enumerate([*entries, ("", "to do", (255, 255, 255, 0))]):
        ET.SubElement(
            categories, "category", value=value, type="string", symbol=str(number), label=label, render="true"
        )
        symbols.append(symbol(str(number), color))
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = str(geometry)
    return _DOCTYPE + _text(root)


def _box(color: tuple[int, int, int, int]) -> dict[str, str]:
    """Properties of the symbol of a box."""
    outline = _TO_DO if color[3] == 0 else ",".join(map(str, color))
    fill = ",".join(map(str, (*color[:3], color[3] // 2)))
    return {"color": fill, "style": "solid", "outline_style": "solid", "outline_color": outline, "outline_width": "0.5"}


def _marker(color: tuple[int, int, int, int]) -> dict[str, str]:
    """Properties of the symbol of a point."""
    outline = _TO_DO if color[3] == 0 else "0,0,0,255"
    return {
        "name": "circle",
        "color": ",".join(map(str, color)),
        "outline_color": outline,
        "outline_width": "0.5",
        "size": "3",
    }


def _add_form(root: ET.Element, classes: ClassMap, attribute: str) -> None:
    """Add a form in which the class of the field `attribute` is chosen from a list."""
    field = ET.SubElement(ET.SubElement(root, "fieldConfiguration"), "field", name=attribute)
    config = ET.SubElement(ET.SubElement(field, "editWidget", type="ValueMap"), "config")
    choices = ET.SubElement(ET.SubElement(config, "Option", type="Map"), "Option", type="List", name="map")
    for name in classes.names:
        ET.SubElement(ET.SubElement(choices, "Option", type="Map"), "Option", type="QString", name=name, value=name)


def _fill(name: str, item: LandClass) -> ET.Element:
    """The symbol of a polygon: a plain fill without outline, so that neighbours touch as pixels do."""
    color = ",".join(map(str, (*item.color, 255)))
    return _symbol("fill", name, "SimpleFill", {"color": color, "style": "solid", "outline_style": "no"})


def _symbol(kind: str, name: str, layer_class: str, properties: Mapping[str, str]) -> ET.Element:
    symbol = ET.Element("symbol", type=kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": layer_class, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
        ET.SubElement(layer, "prop", k=key, v=value)  # for QGIS before 3.26
    return symbol


def _read(path: Path) -> ET.Element | None:
    """The root element of a style file; None if the file is missing or no XML."""
    if not path.is_file():  # opening a pipe would wait
        return None
    try:
        return ET.parse(path).getroot()  # noqa: S314 - no external entities are resolved
    except (ET.ParseError, UnicodeDecodeError):
        return None
