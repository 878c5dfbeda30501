"""Stack the rasters of a STAC item: a virtual raster of GDAL with the bands of all, on the grid of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from co2s_cli.addresses import gdal_name
from co2s_cli.errors import InputError, one_line, shown
from co2s_cli.geo.stac import bands_of, read_scene

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
"""Sample type as numpy names it → GDAL's name."""

_PLAIN = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette)
"""Colour interpretations that give a band no name."""


def stacked(source: str, open_dataset: Callable[[str], Any]) -> str:
    """The XML of the virtual raster for the scene file `source`.

    Rasters of another resolution are resampled (bilinear); all must cover the same ground in the same CRS.

    Raises:
        InputError: an asset cannot be read, covers other ground, or has an unknown sample type.
    """
    root = ElementTree.Element("VRTDataset")
    assets: Mapping[str, Any] = read_scene(source)["assets"]
    first: Any = None
    names = _names(assets)
    for key, asset in assets.items():
        try:
            with open_dataset(asset["href"]) as dataset:
                if first is None:
                    first = _FirstRaster.of(root, dataset)
                first.check(f"{source}: asset {shown(key)}", dataset)
                for band in dataset.indexes:
                    _add_band(root, first, dataset, band, href=asset["href"], names=names[key])
        except RasterioError as error:
            reason = one_line(error.__cause__ or error)
            raise InputError(f"{source}: asset {shown(key)}, {asset['href']}, cannot be read ({reason})") from error
    return ElementTree.tostring(root, encoding="unicode")


class _FirstRaster:
    """Size and position of the first raster, which the virtual raster and all other assets get."""

    def __init__(self, dataset: Any) -> None:
        self.shape: tuple[int, int] = dataset.shape
        self.blocks: tuple[int, int] = dataset.block_shapes[0]
        self.crs = dataset.crs
        self.bounds = tuple(dataset.bounds)
        self.pixel = (abs(dataset.transform.a), abs(dataset.transform.e))

    @classmethod
    def of(cls, root: ElementTree.Element, dataset: Any) -> _FirstRaster:
        """Write size and position of a dataset into the root element of a virtual raster and return them."""
        root.attrib |= {"rasterXSize": str(dataset.width), "rasterYSize": str(dataset.height)}
        points, crs = dataset.gcps
        if dataset.crs is not None:
            ElementTree.SubElement(root, "SRS").text = dataset.crs.to_wkt()
        if not dataset.transform.is_identity:
            ElementTree.SubElement(root, "GeoTransform").text = ", ".join(map(repr, dataset.transform.to_gdal()))
        elif points:
            gcp_list = ElementTree.SubElement(root, "GCPList", Projection=crs.to_wkt() if crs else "")
            for number, point in enumerate(points):
                values = {"Pixel": point.col, "Line": point.row, "X": point.x, "Y": point.y, "Z": point.z or 0.0}
                ElementTree.SubElement(
                    gcp_list, "GCP", {"Id": str(number), **{name: repr(float(value)) for name, value in values.items()}}
                )
        return cls(dataset)

    def check(self, asset_name: str, dataset: Any) -> None:
        """Refuse a raster in another CRS, or whose bounds differ by over half a pixel of the coarser raster."""
        if dataset.crs != self.crs:
            raise InputError(f"{asset_name} has another CRS ({dataset.crs}) than the first asset ({self.crs})")
        tolerance = [max(a, b) / 2 for a, b in zip(self.pixel, (dataset.res[0], dataset.res[1]), strict=True)]
        shifts = [abs(a - b) for a, b in zip(self.bounds, dataset.bounds, strict=True)]
        if any(shift > tolerance[side % 2] for side, shift in enumerate(shifts)):
            raise InputError(
                f"{asset_name} covers other ground than the first asset: {tuple(dataset.bounds)}, wanted {self.bounds}",
                hint="warp the assets to one grid first, for example with gdalbuildvrt or gdalwarp",
            )


def _add_band(
    root: ElementTree.Element, first: _FirstRaster, dataset: Any, band: int, *, href: str, names: Sequence[str]
) -> None:
    """Append a band of an asset to the virtual raster; `names` are the names of the asset's bands from the item."""
    dtype, nodata = dataset.dtypes[band - 1], dataset.nodatavals[band - 1]
    if dtype not in _TYPES:
        raise InputError(f"{href}: samples are {dtype}, wanted is one of {', '.join(_TYPES)}")
    height, width = first.blocks
    options = {"dataType": _TYPES[dtype], "band": str(len(root.findall("VRTRasterBand")) + 1)}
    element = ElementTree.SubElement(root, "VRTRasterBand", options, blockXSize=str(width), blockYSize=str(height))
    color = dataset.colorinterp[band - 1]
    file_name = dataset.descriptions[band - 1] or ("" if color in _PLAIN else color.name)
    name = names[band - 1] if len(names) == dataset.count else file_name
    if name:
        ElementTree.SubElement(element, "Description").text = name
    if nodata is not None:
        ElementTree.SubElement(element, "NoDataValue").text = repr(float(nodata))
    ElementTree.SubElement(element, "ColorInterp").text = "Undefined" if color in _PLAIN else color.name.capitalize()
    element.append(_source(first, dataset, href, str(band), nodata))
    if MaskFlags.per_dataset in dataset.mask_flag_enums[0] and root.find("MaskBand") is None:
        masks = ElementTree.SubElement(ElementTree.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        masks.append(_source(first, dataset, href, "mask,1", None))


def _source(first: _FirstRaster, dataset: Any, href: str, band: str, nodata: float | None) -> ElementTree.Element:
    """The XML element that names the file, band and window from which GDAL reads a band of the virtual raster."""
    resampled = dataset.shape != first.shape
    is_mask = band.startswith("mask")
    source = ElementTree.Element("ComplexSource" if resampled and nodata is not None else "SimpleSource")
    if resampled and not is_mask:
        source.set("resampling", "bilinear")
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="0").text = gdal_name(href)
    ElementTree.SubElement(source, "SourceBand").text = band
    for rectangle, (height, width) in (("SrcRect", dataset.shape), ("DstRect", first.shape)):
        ElementTree.SubElement(source, rectangle, xOff="0", yOff="0", xSize=str(width), ySize=str(height))
    if source.tag == "ComplexSource":
        ElementTree.SubElement(source, "NODATA").text = repr(float(nodata or 0.0))
    return source


def _names(assets: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the bands of each asset, as far as the item gives them: common names unless two bands share one.

    An asset whose bands the item does not list gives its key to its one band.
    """
    band_names = {key: bands_of(asset) or ([[key]] if len(assets) > 1 else []) for key, asset in assets.items()}
    first_names = [names[0] for bands in band_names.values() for names in bands if names]
    return {
        key: [
            next((name for name in names if first_names.count(name) < 2), names[-1] if names else key)
            for names in bands
        ]
        for key, bands in band_names.items()
    }
