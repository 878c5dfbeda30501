"""Open rasters with GDAL: a handle for each call, a bounded block cache, foreign errors translated to `InputError`."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from co2s_cli.addresses import address_of, gdal_name, gdal_options, is_bucket
from co2s_cli.errors import InputError, one_line
from co2s_cli.files import check_readable
from co2s_cli.geo.sources import is_local
from co2s_cli.geo.stac import SCENE
from co2s_cli.geo.stack import stacked
from co2s_cli.limits import MAX_BANDS

FAILURES = (RasterioError, CRSError, CPLE_BaseError, UnicodeError)
"""What rasterio raises when GDAL fails. There is no common base class: some calls raise GDAL's own class, and file
names or messages with bytes of a damaged file may not decode."""

_OPENING = threading.Lock()
"""Held while a dataset is opened: warning filters belong to the process, so that only one thread may swap them."""


REMOTE_OPTIONS = {
    # without it GDAL asks the server for a listing and for every file that could lie beside the raster
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_CACHE_SIZE": "16000000",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # bytes of the first request: large enough for header and index of a COG of some 100,000 blocks, which otherwise
    # take several requests of growing size
    "GDAL_INGESTED_BYTES_AT_OPEN": "262144",
}
"""GDAL's options for addresses beyond `addresses.HTTP`; a variable of that name in the user's environment wins."""


@contextlib.contextmanager
def environment(cache_bytes: int = 256 * 10**6) -> Iterator[None]:
    """Bound GDAL's block cache, shared by all handles of the process, inside the `with` block.

    GDAL's default grows with the memory of the machine.
    """
    # rasterio hands an integer on as bytes, unlike the megabytes of GDAL's own environment variable
    with rasterio.Env(GDAL_CACHEMAX=int(cache_bytes)):
        yield


def open_dataset(source: str, mode: str = "r", **options: Any) -> Any:
    """A rasterio dataset with a handle of its own; rasterio does not warn of a missing georeference, callers do."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(gdal_name(source), mode, sharing=False, **options)


@contextlib.contextmanager
def reading(source: str) -> Iterator[Any]:
    """Open `source` for reading.

    Raises:
        InputError: `source` is no regular file, or GDAL cannot open it or fails inside the `with` block.
    """
    if is_local(source) and os.path.lexists(source):
        check_readable(source)
    try:
        with (
            _remote_environment(source),
            open_dataset(stacked(source, open_dataset) if source.endswith(SCENE) else source) as dataset,
        ):
            if dataset.count > MAX_BANDS:
                raise InputError(f"{source}: has {dataset.count} bands, at most {MAX_BANDS} are read")
            yield dataset
    except FAILURES as error:
        may_be_folder = address_of(source) and is_bucket(source) and not PurePosixPath(source).suffix
        hint = f"for all rasters of a folder write {source}/" if may_be_folder else None
        raise InputError(f"{source}: cannot be read ({first_line(error)})", hint=hint) from error


def first_line(error: BaseException) -> str:
    """One line with the cause of a GDAL error, which rasterio hides behind 'see previous exception'."""
    return one_line(error.__cause__ or error)


@contextlib.contextmanager
def _remote_environment(source: str) -> Iterator[None]:
    """GDAL's options for addresses, set inside the `with` block if `source` is an address or a STAC scene."""
    if is_local(source) and not source.endswith(SCENE):
        yield
        return
    remote = {name: value for name, value in REMOTE_OPTIONS.items() if name not in os.environ}
    with rasterio.Env(**remote, **gdal_options()):
        yield
