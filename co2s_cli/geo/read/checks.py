"""Why a raster is refused before any compute: missing, truncated, of a wrong kind, without the bands asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError, shown
from co2s_cli.files import check_beside, check_readable
from co2s_cli.geo.gdal import FAILURES, first_line, reading
from co2s_cli.geo.protected import files_behind
from co2s_cli.geo.read.bands import find_bands
from co2s_cli.geo.read.validity import block_item
from co2s_cli.geo.sources import is_local

DTYPES = ("uint8", "uint16", "int16", "float32")
"""Sample types of imagery."""

_LOOKUPS = 20_000
"""Blocks of a file whose place is checked; more are checked in even steps."""


def check_exists(source: str) -> None:
    """Refuse a path that does not exist or is no file, before GDAL tries to make something else of it.

    So are pipes and devices that a virtual raster is made of, that lie beside a file under names that GDAL looks for,
    or that a longer name holds (`/vsizip/FILE/…`): GDAL would wait for them.
    """
    if is_local(source) and ":" not in source:
        check_readable(source)
    for path in filter(os.path.exists, files_behind(source)):
        check_readable(path)
        check_beside(path)


def check_dtype(source: str, dataset: Any, bands: Sequence[int]) -> str:
    """The one sample type of the bands in use."""
    found = sorted({str(dataset.dtypes[band - 1]) for band in bands})
    if len(found) > 1:
        raise InputError(f"{source}: bands in use have the sample types {', '.join(found)}, one is wanted")
    if found[0] not in DTYPES:
        raise InputError(
            f"{source}: samples are {found[0]}, wanted is one of {', '.join(DTYPES)}",
            hint="convert the scene first, for example with gdal_translate -ot Float32",
        )
    return found[0]


def alpha_band(dataset: Any) -> int | None:
    """The band that the file calls alpha, counted from 1.

    GDAL marks the fourth band of a byte raster as alpha unless it is told not to, so that a description (nir, say)
    is believed before that mark.
    """
    for band, text, meaning in zip(dataset.indexes, dataset.descriptions, dataset.colorinterp, strict=True):
        if meaning == ColorInterp.alpha and "alpha" in (text or "alpha").lower():
            return int(band)
    return None


def pick_bands(
    source: str, names: Sequence[str], alpha: int | None, wanted: Sequence[int | str] | None
) -> tuple[int, ...]:
    """Numbers, from 1, of the bands wanted by number or by name; all but alpha where nothing is wanted."""
    if wanted is None:
        picked = tuple(band for band in range(1, len(names) + 1) if band != alpha)
    else:
        picked = tuple(_pick(source, names, item) for item in wanted)
    if not picked:
        raise InputError(f"{source}: has no band of imagery", hint="name one of its subdatasets, if it has some")
    if alpha in picked:
        raise InputError(
            f"{source}: band {alpha} is alpha, a mask, and no input of a model",
            hint=f"if it is data, say so in the file: gdal_edit.py -colorinterp_{alpha} undefined",
        )
    return picked


def _pick(source: str, names: Sequence[str], wanted: int | str) -> int:
    known = f"{source}: has {len(names)} bands ({', '.join(names)})"
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(names):
            raise InputError(f"{known}, band {wanted} was asked for", hint="bands are counted from 1")
        return wanted
    (number,) = find_bands(names, [wanted])
    if number is None:
        raise InputError(f"{known}, none of them called {shown(wanted)}, or several", hint="pick by number with -b")
    return number


def check_whole(source: str, dataset: Any) -> None:
    """Refuse a file that ends before its pixels do: the blocks' places are compared with its size, the last is read."""
    if dataset.driver == "GTiff" and Path(dataset.name).is_file():
        _check_places(source, dataset, Path(dataset.name).stat().st_size)
    try:
        dataset.read(dataset.count, window=last_block(dataset))
    except FAILURES as error:
        raise InputError(
            f"{source}: is truncated or damaged, its last block cannot be read ({first_line(error)})",
            hint="copy or download it again",
        ) from error


def last_block(dataset: Any) -> RasterioWindow:
    """The window of the last block of an open dataset's last band."""
    height, width = dataset.block_shapes[-1]
    row, col = (dataset.height - 1) // height * height, (dataset.width - 1) // width * width
    return RasterioWindow(col, row, dataset.width - col, dataset.height - row)


def _check_places(source: str, dataset: Any, size: int) -> None:
    height, width = dataset.block_shapes[0]
    rows, cols = -(-dataset.height // height), -(-dataset.width // width)
    count = rows * cols
    # an odd step visits all columns of the grid of blocks in turn; the last block is always among those looked at
    step = max(1, count // _LOOKUPS) | 1
    for band in {1, dataset.count}:
        for place in {*range(0, count, step), count - 1}:
            row, col = divmod(place, cols)
            end = block_item(dataset, "OFFSET", row, col, band) + block_item(dataset, "SIZE", row, col, band)
            if end > size:
                raise InputError(
                    f"{source}: is truncated, {size} bytes found, at least {end} wanted",
                    hint="copy or download it again",
                )


def color_kind(source: str) -> Literal["gray", "palette", "bands"]:
    """Whether a file has one band of grey values, one of indices into a palette, or several; alpha is no band."""
    with reading(source) as dataset:
        kinds = [kind for kind in dataset.colorinterp if kind != ColorInterp.alpha]
    if len(kinds) != 1:
        return "bands"
    return "palette" if kinds[0] == ColorInterp.palette else "gray"
