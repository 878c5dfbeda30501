"""A file of polygons: its attributes, which of them can name the classes, and where polygons of two classes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from co2s_cli.classes import MAX_CLASSES
from co2s_cli.errors import InputError, shown
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.features import to_crs

_LISTED = 12
"""Attributes that a message names."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a file of polygons."""

    name: str
    kind: Literal["text", "whole numbers", "other"]
    values: tuple[Any, ...]
    """The different values, text or whole numbers in their order; empty ones left out."""
    polygons: int
    """Polygons that have a value."""

    @property
    def fits(self) -> bool:
        """Whether it can name classes: text or whole numbers, 2 to 255 different ones, and some on several polygons."""
        return self.kind != "other" and 2 <= len(self.values) <= MAX_CLASSES and len(self.values) < self.polygons

    def told(self) -> str:
        """Name, number of values, and what tells that it fits."""
        count = len(self.values)
        return f"{self.name} ({count} value{'s' * (count != 1)}{', fits' if self.fits else ''})"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two polygons of different classes that share ground."""

    first: int
    second: int
    """Positions among the polygons, from 0."""
    area: float
    """Shared area in the unit of the shapes."""
    share: float
    """The same as a share of the smaller polygon."""


def in_pixels(path: Path, frame: Any, grid: Grid) -> NDArray[Any]:
    """The polygons as valid shapely geometries in pixels (column, row) of `grid`, reprojected where its CRS differs."""
    a, b, c, d, e, f = tuple(~grid.transform)[:6]
    pixels: NDArray[Any] = shapely.transform(
        on_grid(path, frame, grid).geometry.make_valid().to_numpy(),
        lambda xy: np.column_stack((a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f)),
    )
    return pixels


def touching(shapes: NDArray[Any], grid: Grid) -> NDArray[np.bool_]:
    """Which shapes (n,), in pixels of `grid`, share ground with it."""
    shared: NDArray[np.bool_] = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
    return shared


def on_grid(path: Path, frame: Any, grid: Grid) -> Any:
    """The polygons in the CRS of `grid`; as they are where that has none."""
    return frame if grid.crs is None else to_crs(frame, grid.crs.to_wkt(), path)


def other_crs(frame: Any, grid: Grid) -> str | None:
    """The CRS of the polygons where it is another than the grid's; None where both are the same or one has none."""
    if frame.crs is None or grid.crs is None or CRS.from_user_input(frame.crs.to_wkt()) == grid.crs:
        return None
    return str(frame.crs.to_string())


def said(column: Any) -> Any:
    """Which values of a column are neither missing nor blank text."""
    return column.notna() & (column.astype(str).str.strip() != "")


def attributes_of(frame: Any) -> tuple[Attribute, ...]:
    """Every attribute of a file of polygons, in the order of the file."""
    return tuple(_attribute(str(name), frame[name]) for name in frame.columns if name != frame.geometry.name)


def no_attribute(path: Path, frame: Any, attribute: str) -> InputError:
    """What is told of an attribute that a file of polygons does not have."""
    attributes = attributes_of(frame)
    listed = ", ".join(item.told() for item in attributes[:_LISTED]) + (", …" if len(attributes) > _LISTED else "")
    fitting = next((item.name for item in attributes if item.fits), "NAME")
    return InputError(
        f"{path}: has no attribute {shown(attribute)} (found: {listed or 'none'})",
        hint=f"name another one: --attribute {fitting}, or attribute: {fitting} in data.yaml",
    )


def overlaps(shapes: Sequence[Any], class_ids: Sequence[int]) -> list[Overlap]:
    """Pairs of polygons of different classes that overlap, the largest shared area first."""
    geometries, ids = np.asarray(shapes, dtype=object), np.asarray(class_ids)
    first, second = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    differ = (first < second) & (ids[first] != ids[second])
    first, second = first[differ], second[differ]
    shared: NDArray[np.float64] = shapely.area(shapely.intersection(geometries[first], geometries[second]))
    smaller = np.minimum(shapely.area(geometries[first]), shapely.area(geometries[second]))
    order = [index for index in np.argsort(-shared, kind="stable") if shared[index] > 0]
    return [
        Overlap(int(first[at]), int(second[at]), float(shared[at]), float(shared[at] / smaller[at])) for at in order
    ]


def _attribute(name: str, column: Any) -> Attribute:
    values = column[said(column)]
    if values.empty:
        return Attribute(name, "other", (), 0)
    distinct = list(values.unique())
    if all(isinstance(value, str) for value in distinct):
        return Attribute(name, "text", tuple(sorted(distinct)), len(values))
    if values.dtype.kind in "iuf" and all(float(value).is_integer() for value in distinct):
        return Attribute(name, "whole numbers", tuple(sorted(int(value) for value in distinct)), len(values))
    return Attribute(name, "other", tuple(map(str, distinct)), len(values))
