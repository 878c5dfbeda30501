"""GDAL opened our way: own handles, a bounded block cache, its errors and warnings turned into ours."""

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
"""What rasterio raises when GDAL fails: it has no common base, some calls let GDAL's own class through, and
names of files and messages that repeat bytes of a damaged one may be no text."""

_OPENING = threading.Lock()
"""Warning filters belong to the process, so that two threads must not swap them at the same time."""


REMOTE_OPTIONS = {
    # without it GDAL asks the server for a listing and for every file that could lie beside the raster
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_CACHE_SIZE": "16000000",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # one request for the header instead of several growing ones; holds the index of a COG of some 100,000 blocks
    "GDAL_INGESTED_BYTES_AT_OPEN": "262144",
}
"""GDAL's options for addresses beyond `addresses.HTTP`; a variable of that name in the user's environment wins."""


@contextlib.contextmanager
def environment(cache_bytes: int = 256 * 10**6) -> Iterator[None]:
    """Bound GDAL's block cache, shared by all handles of the process, while the block runs.

    By itself it grows with the machine.
    """
    # rasterio hands an integer on as bytes, unlike the megabytes of GDAL's own environment variable
    with rasterio.Env(GDAL_CACHEMAX=int(cache_bytes)):
        yield


def open_dataset(source: str, mode: str = "r", **options: Any) -> Any:
    """A rasterio dataset with a handle of its own; silent about missing georeference, which is ours to tell."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(gdal_name(source), mode, sharing=False, **options)


@contextlib.contextmanager
def reading(source: str) -> Iterator[Any]:
    """Open `source` for reading; what is no file, or GDAL cannot open or read, is an `InputError` that names it."""
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
        folder = address_of(source) and is_bucket(source) and not PurePosixPath(source).suffix
        hint = f"{source}/ names the rasters of a folder" if folder else None
        raise InputError(f"{source}: cannot be read ({first_line(error)})", hint=hint) from error


def first_line(error: BaseException) -> str:
    """The most telling line of a GDAL error: rasterio keeps the cause behind 'see previous exception'."""
    return one_line(error.__cause__ or error)


@contextlib.contextmanager
def _remote_environment(source: str) -> Iterator[None]:
    """Options for addresses while `source` is in use, where it is one."""
    if is_local(source) and not source.endswith(SCENE):
        yield
        return
    remote = {name: value for name, value in REMOTE_OPTIONS.items() if name not in os.environ}
    with rasterio.Env(**remote, **gdal_options()):
        yield
