"""Join finished tiles (small GeoTIFFs) into one Cloud-Optimized GeoTIFF, by way of a virtual raster of GDAL."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError, OutputError
from co2s_cli.files import TEMPORARY
from co2s_cli.geo.checksum import CHECKSUM_TAG, UNSET, store_checksum
from co2s_cli.geo.gdal import FAILURES, first_line, open_dataset, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.checks import check_whole
from co2s_cli.geo.write.raster import BLOCK, TILED, Layer, create_dataset, make_cog
from co2s_cli.tiling import Window


def write_tile(path: Path, bands: NDArray[Any], *, nodata: float, tags: Mapping[str, str]) -> None:
    """Write `bands` (bands, rows, columns) as a GeoTIFF without georeference, with a checksum of itself.

    GDAL compresses without holding Python's global lock, so that threads can write at the same time.

    Raises:
        OutputError: the file cannot be written.
    """
    count, height, width = bands.shape
    try:
        with open_dataset(
            str(path), "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype.name,
            nodata=nodata, **TILED,
        ) as dataset:  # fmt: skip
            dataset.update_tags(**{**tags, CHECKSUM_TAG: UNSET})
            dataset.write(bands)
        store_checksum(path)
    except FAILURES as error:
        raise OutputError(f"{path}: could not be written ({first_line(error)})") from error


def tile_tags(path: Path) -> dict[str, str] | None:
    """The tags of a tile; None if the file is missing, truncated or unreadable."""
    try:
        with reading(str(path)) as dataset:
            check_whole(str(path), dataset)
            return dict(dataset.tags())
    except InputError:
        return None


def read_tile(path: Path, top: int, bottom: int) -> NDArray[Any]:
    """(bands, rows, columns) rows `top` … `bottom` - 1 of a tile."""
    with reading(str(path)) as dataset:
        return np.asarray(dataset.read(window=RasterioWindow(0, top, dataset.width, bottom - top)))


def make_mosaic(
    part: Path,
    tiles: Mapping[Window, Path],
    *,
    grid: Grid,
    layer: Layer,
    tags: Mapping[str, str],
    creation: Mapping[str, str],
) -> None:
    """Write the unfinished file `part`, a COG, from tiles by window; the tiles cover the grid and lie in one folder."""
    folder = next(iter(tiles.values())).parent
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as scratch:
        virtual = Path(scratch) / "tiles.vrt"
        create_dataset(virtual, grid, layer, tags, driver="VRT").close()
        document = ElementTree.parse(virtual)  # noqa: S314 - GDAL wrote it
        for band in document.getroot().iter("VRTRasterBand"):
            band.attrib |= {"blockXSize": str(BLOCK), "blockYSize": str(BLOCK)}
            band.extend(_source(window, tile, band.attrib) for window, tile in tiles.items())
        document.write(virtual)
        make_cog(virtual, part, layer, creation)


def _source(window: Window, tile: Path, band: Mapping[str, str]) -> ElementTree.Element:
    """The XML element of a tile as a source of one band, with the XML attributes `band`, of a virtual raster.

    Thanks to `SourceProperties` GDAL need not open every tile when it opens the virtual raster.
    """
    source = ElementTree.Element("SimpleSource")
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = f"../{tile.name}"
    ElementTree.SubElement(source, "SourceBand").text = band["band"]
    size = {"RasterXSize": str(window.width), "RasterYSize": str(window.height), "DataType": band["dataType"]}
    ElementTree.SubElement(source, "SourceProperties", size, BlockXSize=str(BLOCK), BlockYSize=str(BLOCK))
    extent = {"xSize": str(window.width), "ySize": str(window.height)}
    ElementTree.SubElement(source, "SrcRect", extent, xOff="0", yOff="0")
    ElementTree.SubElement(source, "DstRect", extent, xOff=str(window.col), yOff=str(window.row))
    return source
