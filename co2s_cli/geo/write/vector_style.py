"""A QGIS style for polygons of classes: one fill a class, in the colours of the class raster."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from co2s_cli.classes import LandClass
from co2s_cli.files import appearing

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def is_taken(path: Path) -> bool:
    """Whether there is a file that holds more than the style of a raster of the same name."""
    if not path.exists():
        return False
    root = _read(path)
    return root is None or root.find("renderer-v2") is not None


def write(path: Path, classes: dict[int, LandClass]) -> None:
    """Write the style; that of a raster in the same file stays, because QGIS looks for both under one name."""
    old = _read(path) if path.exists() else None
    raster = [] if old is None else [child for child in old if child.tag in ("pipe", "pipe-data-defined-properties")]
    with appearing(path) as temporary:
        temporary.write_text(qml(classes, raster), encoding="utf-8")


def qml(classes: dict[int, LandClass], others: list[ET.Element]) -> str:
    """A categorized renderer over the field `class_id`, followed by other elements."""
    root = ET.Element("qgis", version="3.16", styleCategories="Symbology")
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="categorizedSymbol", attr="class_id", symbollevels="0", enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for place, (value, item) in enumerate(classes.items()):
        ET.SubElement(
            categories, "category", value=str(value), type="integer", symbol=str(place), label=item.name, render="true"
        )
        symbols.append(_fill(str(place), item))
    root.extend(others)
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = "2"  # polygons
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _fill(name: str, item: LandClass) -> ET.Element:
    """A plain fill; no outline, so that neighbours meet as pixels do."""
    symbol = ET.Element("symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in (
        ("color", ",".join(map(str, (*item.color, 255)))),
        ("style", "solid"),
        ("outline_style", "no"),
    ):
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
        ET.SubElement(layer, "prop", k=key, v=value)  # QGIS before 3.26 reads these
    return symbol


def _read(path: Path) -> ET.Element | None:
    """The root of a style file; None where it is none."""
    try:
        return ET.parse(path).getroot()  # noqa: S314 - no external entities are resolved
    except (ET.ParseError, UnicodeDecodeError):
        return None
