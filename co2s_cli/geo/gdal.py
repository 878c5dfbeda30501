"""GDAL opened our way: own handles, a bounded block cache, its errors and warnings turned into ours."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from co2s_cli.errors import InputError

FAILURES = (RasterioError, CRSError, CPLE_BaseError)
"""What rasterio raises when GDAL fails: it has no common base, and some calls let GDAL's own class through."""

_OPENING = threading.Lock()
"""Warning filters belong to the process, so that two threads must not swap them at the same time."""


@contextlib.contextmanager
def environment(cache_bytes: int) -> Iterator[None]:
    """Bound GDAL's block cache, shared by all handles of the process, while the block runs."""
    # rasterio hands an integer on as bytes, unlike the megabytes of GDAL's own environment variable
    with rasterio.Env(GDAL_CACHEMAX=int(cache_bytes), CPL_VSIL_CURL_CACHE_SIZE=16_000_000):
        yield


def open_dataset(source: str, mode: str = "r", **options: Any) -> Any:
    """A rasterio dataset with a handle of its own; silent about missing georeference, which is ours to tell."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(source, mode, sharing=False, **options)


@contextlib.contextmanager
def reading(source: str) -> Iterator[Any]:
    """Open `source` for reading; what GDAL cannot open or read is an `InputError` that names it."""
    try:
        with open_dataset(source) as dataset:
            yield dataset
    except FAILURES as error:
        raise InputError(f"{source}: cannot be read ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """The most telling line of a GDAL error: rasterio keeps the cause behind 'see previous exception'."""
    told = error.__cause__ or error
    return " ".join(str(told).split())[:300]
