"""The rasters of a STAC item as one: a virtual raster of GDAL whose bands are theirs, on the grid of the first."""

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
"""Sample type → GDAL's name."""

_PLAIN = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette)


def stacked(source: str, open_dataset: Callable[[str], Any]) -> str:
    """The XML of the virtual raster of a scene file.

    Rasters of another resolution are resampled (bilinear) where they cover the same ground in the same CRS.

    Raises:
        InputError: an asset lies elsewhere, or holds no samples that are known.
    """
    root = ElementTree.Element("VRTDataset")
    assets: Mapping[str, Any] = read_scene(source)["assets"]
    first: Any = None
    names = _names(assets)
    for key, asset in assets.items():
        try:
            with open_dataset(asset["href"]) as dataset:
                if first is None:
                    first = _Grid.of(root, dataset)
                first.check(f"{source}: asset {shown(key)}", dataset)
                for band in dataset.indexes:
                    _add_band(root, first, dataset, band, href=asset["href"], names=names[key])
        except RasterioError as error:
            told = one_line(error.__cause__ or error)
            raise InputError(f"{source}: asset {shown(key)}, {asset['href']}, cannot be read ({told})") from error
    return ElementTree.tostring(root, encoding="unicode")


class _Grid:
    """Size and place of the first raster, which all others get."""

    def __init__(self, dataset: Any) -> None:
        self.shape: tuple[int, int] = dataset.shape
        self.blocks: tuple[int, int] = dataset.block_shapes[0]
        self.crs = dataset.crs
        self.bounds = tuple(dataset.bounds)
        self.pixel = (abs(dataset.transform.a), abs(dataset.transform.e))

    @classmethod
    def of(cls, root: ElementTree.Element, dataset: Any) -> _Grid:
        """The grid of a dataset, written into the root of a virtual raster."""
        root.attrib |= {"rasterXSize": str(dataset.width), "rasterYSize": str(dataset.height)}
        points, crs = dataset.gcps
        if dataset.crs is not None:
            ElementTree.SubElement(root, "SRS").text = dataset.crs.to_wkt()
        if not dataset.transform.is_identity:
            ElementTree.SubElement(root, "GeoTransform").text = ", ".join(map(repr, dataset.transform.to_gdal()))
        elif points:
            listed = ElementTree.SubElement(root, "GCPList", Projection=crs.to_wkt() if crs else "")
            for number, point in enumerate(points):
                place = {"Pixel": point.col, "Line": point.row, "X": point.x, "Y": point.y, "Z": point.z or 0.0}
                ElementTree.SubElement(
                    listed, "GCP", {"Id": str(number), **{name: repr(float(value)) for name, value in place.items()}}
                )
        return cls(dataset)

    def check(self, what: str, dataset: Any) -> None:
        """Refuse a raster that does not cover the same ground."""
        if dataset.crs != self.crs:
            raise InputError(f"{what} has another CRS ({dataset.crs}) than the first one ({self.crs})")
        slack = [max(own, other) / 2 for own, other in zip(self.pixel, (dataset.res[0], dataset.res[1]), strict=True)]
        apart = [abs(own - other) for own, other in zip(self.bounds, dataset.bounds, strict=True)]
        if any(gap > slack[side % 2] for side, gap in enumerate(apart)):
            raise InputError(
                f"{what} covers other ground than the first one: {tuple(dataset.bounds)}, wanted {self.bounds}",
                hint="warp the assets to one grid first, for example with gdalbuildvrt or gdalwarp",
            )


def _add_band(
    root: ElementTree.Element, grid: _Grid, dataset: Any, band: int, *, href: str, names: Sequence[str]
) -> None:
    dtype, nodata = dataset.dtypes[band - 1], dataset.nodatavals[band - 1]
    if dtype not in _TYPES:
        raise InputError(f"{href}: samples are {dtype}, wanted is one of {', '.join(_TYPES)}")
    height, width = grid.blocks
    options = {"dataType": _TYPES[dtype], "band": str(len(root.findall("VRTRasterBand")) + 1)}
    element = ElementTree.SubElement(root, "VRTRasterBand", options, blockXSize=str(width), blockYSize=str(height))
    kind = dataset.colorinterp[band - 1]
    own = dataset.descriptions[band - 1] or ("" if kind in _PLAIN else kind.name)
    name = names[band - 1] if len(names) == dataset.count else own
    if name:
        ElementTree.SubElement(element, "Description").text = name
    if nodata is not None:
        ElementTree.SubElement(element, "NoDataValue").text = repr(float(nodata))
    ElementTree.SubElement(element, "ColorInterp").text = kind.name.capitalize() if kind not in _PLAIN else "Undefined"
    element.append(_source(grid, dataset, href, str(band), nodata))
    if MaskFlags.per_dataset in dataset.mask_flag_enums[0] and root.find("MaskBand") is None:
        masks = ElementTree.SubElement(ElementTree.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        masks.append(_source(grid, dataset, href, "mask,1", None))


def _source(grid: _Grid, dataset: Any, href: str, band: str, nodata: float | None) -> ElementTree.Element:
    """Where the samples of a band come from."""
    resampled = dataset.shape != grid.shape
    mask = band.startswith("mask")
    source = ElementTree.Element("ComplexSource" if resampled and nodata is not None else "SimpleSource")
    if resampled and not mask:
        source.set("resampling", "bilinear")
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="0").text = gdal_name(href)
    ElementTree.SubElement(source, "SourceBand").text = band
    for place, (height, width) in (("SrcRect", dataset.shape), ("DstRect", grid.shape)):
        ElementTree.SubElement(source, place, xOff="0", yOff="0", xSize=str(width), ySize=str(height))
    if source.tag == "ComplexSource":
        ElementTree.SubElement(source, "NODATA").text = repr(float(nodata or 0.0))
    return source


def _names(assets: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the bands of each asset are called, as far as the item tells: by their common names where no two share one.

    The one band of an asset about which nothing is told has the asset's name.
    """
    told = {key: bands_of(asset) or ([[key]] if len(assets) > 1 else []) for key, asset in assets.items()}
    common = [names[0] for bands in told.values() for names in bands if names]
    return {
        key: [next((name for name in names if common.count(name) < 2), names[-1] if names else key) for names in bands]
        for key, bands in told.items()
    }
