"""Checks of a raster before any compute: it exists, is complete, has a known sample type and the wanted bands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError, shown
from co2s_cli.files import check_companions, check_readable
from co2s_cli.geo.gdal import FAILURES, first_line, reading
from co2s_cli.geo.protected import files_behind
from co2s_cli.geo.read.bands import find_bands
from co2s_cli.geo.read.validity import block_item
from co2s_cli.geo.sources import is_local

DTYPES = ("uint8", "uint16", "int16", "float32")
"""Sample types that a scene may have."""

_MAX_LOOKUPS = 20_000
"""About how many blocks of a file are checked for lying inside it; of more blocks an evenly spaced part is checked."""


def check_exists(source: str) -> None:
    """Refuse a path that does not exist or is no file, before GDAL interprets it as something else.

    Also refused are pipes and devices, for which GDAL would wait: as sources of a virtual raster, beside a file under a
    name that GDAL looks for, or inside a longer name (`/vsizip/FILE/…`).
    """
    if is_local(source) and ":" not in source:
        check_readable(source)
    for path in filter(os.path.exists, files_behind(source)):
        check_readable(path)
        check_companions(path)


def check_dtype(source: str, dataset: Any, bands: Sequence[int]) -> str:
    """The sample type of the bands in use (numbers from 1), which all must share."""
    dtypes = sorted({str(dataset.dtypes[band - 1]) for band in bands})
    if len(dtypes) > 1:
        raise InputError(f"{source}: the bands in use have several sample types ({', '.join(dtypes)}), one is wanted")
    if dtypes[0] not in DTYPES:
        raise InputError(
            f"{source}: samples are {dtypes[0]}, wanted is one of {', '.join(DTYPES)}",
            hint="convert the scene first, for example with gdal_translate -ot Float32",
        )
    return dtypes[0]


def alpha_band(dataset: Any) -> int | None:
    """Number, from 1, of the alpha band; None if there is none.

    GDAL by default marks the fourth band of a byte raster as alpha, so that a description such as `nir` overrules that
    mark.
    """
    for band, text, color in zip(dataset.indexes, dataset.descriptions, dataset.colorinterp, strict=True):
        if color == ColorInterp.alpha and "alpha" in (text or "alpha").lower():
            return int(band)
    return None


def pick_bands(
    source: str, names: Sequence[str], alpha: int | None, wanted: Sequence[int | str] | None
) -> tuple[int, ...]:
    """Numbers, from 1, of the bands `wanted` by number or name; if None, all bands except alpha."""
    if wanted is None:
        picked = tuple(band for band in range(1, len(names) + 1) if band != alpha)
    else:
        by_name = iter(find_bands(names, [item for item in wanted if isinstance(item, str)]))
        picked = tuple(_pick(source, names, item, item if isinstance(item, int) else next(by_name)) for item in wanted)
    if not picked:
        raise InputError(f"{source}: has no band of imagery", hint="if it has subdatasets, name one of these")
    if alpha in picked:
        raise InputError(
            f"{source}: band {alpha} is alpha, which is a mask and no input of a model",
            hint=f"if it holds data, mark it so in the file: gdal_edit.py -colorinterp_{alpha} undefined",
        )
    return picked


def _pick(source: str, names: Sequence[str], wanted: int | str, number: int | None) -> int:
    """`number`, from 1, of the band `wanted` by number or name; refused where there is none."""
    bands = f"{source}: has {len(names)} bands ({', '.join(names)})"
    if number is None:
        raise InputError(
            f"{bands}, none or several of them called {shown(wanted)}", hint="give the band's number in its place"
        )
    if not 1 <= number <= len(names):
        raise InputError(f"{bands}, band {wanted} was asked for", hint="bands are counted from 1")
    return number


def check_whole(source: str, dataset: Any) -> None:
    """Refuse a truncated file: the ends of blocks are compared with the file's size, and the last block is read."""
    if dataset.driver == "GTiff" and Path(dataset.name).is_file():
        _check_block_ends(source, dataset, Path(dataset.name).stat().st_size)
    try:
        dataset.read(dataset.count, window=last_block(dataset))
    except FAILURES as error:
        raise InputError(
            f"{source}: is truncated or damaged, its last block cannot be read ({first_line(error)})",
            hint="copy or download it again",
        ) from error


def last_block(dataset: Any) -> RasterioWindow:
    """The window of the last block in the last band of an open dataset."""
    height, width = dataset.block_shapes[-1]
    row, col = (dataset.height - 1) // height * height, (dataset.width - 1) // width * width
    return RasterioWindow(col, row, dataset.width - col, dataset.height - row)


def _check_block_ends(source: str, dataset: Any, size: int) -> None:
    """Refuse a GeoTIFF in whose index a block ends beyond `size`, the bytes of the file."""
    height, width = dataset.block_shapes[0]
    rows, cols = -(-dataset.height // height), -(-dataset.width // width)
    count = rows * cols
    # an odd step visits all columns of the grid of blocks in turn; the last block is always checked
    step = max(1, count // _MAX_LOOKUPS) | 1
    for band in {1, dataset.count}:
        for index in {*range(0, count, step), count - 1}:
            row, col = divmod(index, cols)
            end = block_item(dataset, "OFFSET", row, col, band) + block_item(dataset, "SIZE", row, col, band)
            if end > size:
                raise InputError(
                    f"{source}: is truncated, found {size} bytes, wanted at least {end}",
                    hint="copy or download it again",
                )


def color_kind(source: str) -> Literal["gray", "palette", "bands"]:
    """Whether a file has one band of grey values, one band of palette indices, or several bands, without alpha."""
    with reading(source) as dataset:
        colors = [color for color in dataset.colorinterp if color != ColorInterp.alpha]
    if len(colors) != 1:
        return "bands"
    return "palette" if colors[0] == ColorInterp.palette else "gray"
