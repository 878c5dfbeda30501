"""Outlines of small labelled patches: polygons that say the same as their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from rasterio.features import shapes
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.files import appearing
from co2s_cli.geo.grid import Grid

Patch = tuple[int, int, NDArray[np.uint8]]
"""Row and column of the upper left corner, and class ids (h, w) with `IGNORE` where nothing is labelled."""


def write_outlines(path: Path, patches: Iterable[Patch], *, grid: Grid, classes: ClassMap) -> int:
    """Write one polygon for each region of one class in each patch, and give their number.

    Attributes: `class`, the name, and `class_id`. The patches must not touch each other: what touches is not joined.
    For the few percent that people label; whole maps go through the streamed vectoriser.

    Raises:
        OutputError: no room, no permission.
    """
    regions = [region for patch in patches for region in _regions(patch, grid.transform)]
    ids = [value for _, value in regions]
    frame = gpd.GeoDataFrame(
        {"class": [classes.names[value] for value in ids], "class_id": np.array(ids, dtype=np.int32)},
        geometry=gpd.GeoSeries([outline for outline, _ in regions], crs=grid.crs),
    )
    with appearing(path) as temporary:
        try:
            frame.to_file(temporary, layer=path.stem, driver="GPKG", engine="pyogrio", geometry_type="Polygon")
        except DataSourceError as error:
            raise OutputError(f"{path}: could not be written ({error})") from error
    return len(regions)


def _regions(patch: Patch, transform: Affine) -> Iterator[tuple[BaseGeometry, int]]:
    row, col, labels = patch
    here: Any = transform @ Affine.translation(col, row)
    for outline, value in shapes(labels, mask=labels != IGNORE, connectivity=4, transform=here):
        yield shape(outline), int(value)
