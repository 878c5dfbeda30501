"""Whole rows of a one-band raster, piece by piece from anywhere in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import first_line, reading


@dataclass(frozen=True, slots=True)
class Rows:
    """An open raster."""

    source: str
    dataset: Any

    def read(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows `top` … `bottom` - 1 of the first band, as they are stored."""
        window = RasterioWindow(0, top, self.dataset.width, bottom - top)
        try:
            return np.asarray(self.dataset.read(1, window=window))
        except RasterioError as error:
            raise InputError(f"{self.source}: cannot be read ({first_line(error)})") from error


@contextlib.contextmanager
def rows_of(source: str) -> Iterator[Rows]:
    """Open a raster, for one thread."""
    with reading(source) as dataset:
        yield Rows(source, dataset)
