"""Examine a file of polygons and points: its attributes, which of them can name classes, overlaps of classes."""

from __future__ import annotations

import shlex
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

_MAX_LISTED = 12
"""Most attributes that a message names."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a file of polygons."""

    name: str
    kind: Literal["text", "whole numbers", "other"]
    values: tuple[Any, ...]
    """The different values without empty ones; text and whole numbers are sorted."""
    polygons: int
    """Number of polygons with a value."""

    @property
    def fits(self) -> bool:
        """Whether it can name classes: 2 to 255 different texts or whole numbers, one at least on several polygons."""
        return self.kind != "other" and 2 <= len(self.values) <= MAX_CLASSES and len(self.values) < self.polygons

    def summary(self) -> str:
        """Name and number of different values, with the word `fits` if it can name classes."""
        count = len(self.values)
        return f"{self.name} ({count} value{'s' * (count != 1)}{', fits' if self.fits else ''})"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two polygons of different classes that overlap."""

    first: int
    """Index of the earlier polygon."""
    second: int
    """Index of the later polygon."""
    area: float
    """Area of the overlap in squared units of the shapes' coordinates."""
    share: float
    """Area of the overlap divided by that of the smaller polygon."""


def in_pixels(path: Path, frame: Any, grid: Grid) -> NDArray[Any]:
    """(n) the polygons as valid shapely geometries in pixels (column, row) of `grid`, reprojected where needed.

    A point becomes the square of the pixel that it lies in.
    """
    a, b, c, d, e, f = tuple(~grid.transform)[:6]
    pixels: NDArray[Any] = shapely.transform(
        on_grid(path, frame, grid).geometry.make_valid().to_numpy(),
        lambda xy: np.column_stack((a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f)),
    )
    for index in np.flatnonzero(shapely.get_dimensions(pixels) == 0):
        left, top = np.floor(shapely.get_coordinates(pixels[index])).T
        pixels[index] = shapely.union_all(shapely.box(left, top, left + 1, top + 1))
    return pixels


def intersects_grid(shapes: NDArray[Any], grid: Grid) -> NDArray[np.bool_]:
    """(n) True where a shape, in pixels of `grid`, shares an area with the grid; a common border alone is none."""
    box = shapely.box(0, 0, grid.width, grid.height)
    hits: NDArray[np.bool_] = shapely.intersects(shapes, box) & ~shapely.touches(shapes, box)
    return hits


def on_grid(path: Path, frame: Any, grid: Grid) -> Any:
    """The polygons in the CRS of `grid`; unchanged if `grid` has no CRS."""
    return frame if grid.crs is None else to_crs(frame, grid.crs.to_wkt(), path)


def other_crs(frame: Any, grid: Grid) -> str | None:
    """Name of the polygons' CRS if it differs from that of `grid`; None if both are equal or one is missing."""
    if frame.crs is None or grid.crs is None or CRS.from_user_input(frame.crs.to_wkt()) == grid.crs:
        return None
    return str(frame.crs.to_string())


def has_value(column: Any) -> Any:
    """(n) True where a value of a column is neither missing nor blank text."""
    return column.notna() & (column.astype(str).str.strip() != "")


def attributes_of(frame: Any) -> tuple[Attribute, ...]:
    """Every attribute of a file of polygons, in the order of the file."""
    return tuple(_attribute(str(name), frame[name]) for name in frame.columns if name != frame.geometry.name)


def only_classes(frame: Any) -> Attribute | None:
    """The attribute that names the classes, if only one can, or the only text, beside a code that divides alike.

    ArcGIS writes training samples with such a name and code, and other numbers.
    """
    suitable = [item for item in attributes_of(frame) if item.fits]
    texts = [item for item in suitable if item.kind == "text"]
    if len(suitable) < 2:
        return suitable[0] if suitable else None
    if len(texts) != 1:
        return None
    name = texts[0].name
    codes = (frame[[name, item.name]].drop_duplicates() for item in suitable if item.name != name)
    return texts[0] if any(pairs.nunique(dropna=False).eq(len(pairs)).all() for pairs in codes) else None


def no_attribute(path: Path, frame: Any, attribute: str) -> InputError:
    """The error for an attribute that a file of polygons lacks; it lists those that the file has."""
    attributes = attributes_of(frame)
    listed = ", ".join(item.summary() for item in attributes[:_MAX_LISTED])
    listed += ", …" if len(attributes) > _MAX_LISTED else ""
    # texts before numbers, which may be measurements at a point; then few values before many
    fitting = sorted((item.kind != "text", len(item.values), item.name) for item in attributes if item.fits)
    likely = fitting[0][-1] if fitting else "NAME"
    return InputError(
        f"{path}: has no attribute {shown(attribute)} (found: {listed or 'none'})",
        hint=f"choose another attribute: --attribute {shlex.quote(likely)}, or attribute: {likely} in data.yaml",
    )


def overlaps(shapes: Sequence[Any], class_ids: Sequence[int]) -> list[Overlap]:
    """Pairs of polygons of different classes that overlap, the largest overlap first."""
    geometries, ids = np.asarray(shapes, dtype=object), np.asarray(class_ids)
    first, second = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    differ = (first < second) & (ids[first] != ids[second])
    first, second = first[differ], second[differ]
    shared: NDArray[np.float64] = shapely.area(shapely.intersection(geometries[first], geometries[second]))
    smaller = np.minimum(shapely.area(geometries[first]), shapely.area(geometries[second]))
    largest_first = [pair for pair in np.argsort(-shared, kind="stable") if shared[pair] > 0]
    return [
        Overlap(int(first[pair]), int(second[pair]), float(shared[pair]), float(shared[pair] / smaller[pair]))
        for pair in largest_first
    ]


def _attribute(name: str, column: Any) -> Attribute:
    values = column[has_value(column)]
    if values.empty:
        return Attribute(name, "other", (), 0)
    distinct = list(values.unique())
    if all(isinstance(value, str) for value in distinct):
        return Attribute(name, "text", tuple(sorted(distinct)), len(values))
    if values.dtype.kind in "iuf" and all(float(value).is_integer() for value in distinct):
        return Attribute(name, "whole numbers", tuple(sorted(int(value) for value in distinct)), len(values))
    return Attribute(name, "other", tuple(map(str, distinct)), len(values))
