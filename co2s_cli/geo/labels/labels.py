"""Labels of a scene, window by window, as class ids: from a raster on its grid, or from polygons and points."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import features
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.errors import InputError, shown
from co2s_cli.geo.checksum import CHECKSUM_TAG, was_changed
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.polygon_file import has_value, in_pixels, no_attribute
from co2s_cli.geo.read.features import is_vector, read_shapes, shape_noun
from co2s_cli.geo.read.reader import BandReader
from co2s_cli.tiling import Window, spans

log = logging.getLogger(__name__)

ClassOfValue = Mapping[int | str, int | str | None]
"""Value in the label file → class by name or id, or None for "not labelled"."""

NO_CLASS = ("", "none", "null", "ignore")
"""Words, in upper or lower case, that mean "not labelled" unless a class has that name."""

_VALUES_HINT = "add the class, or say what the value means: values: in data.yaml, --values of `co2s evaluate`"


STRIP = 2048
"""Side in pixels of the squares in which label rasters are read."""
_MOST_REGIONS = 50_000
"""With more regions the labels are no drawn places, and joining them would take minutes."""

_TOLERANCE = 0.01
"""Largest error, in pixels, of a warped position; grids that count as equal differ by as much. Less takes 20 times as
long."""


class LabelReader(Protocol):
    """Reads class ids of windows; an instance belongs to one thread."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) class ids of `window`, which lies inside the scene; `IGNORE` where nothing is labelled."""


class Labels(Protocol):
    """The labels of one scene; holds no open file, `reader` opens it."""

    @property
    def source(self) -> str:
        """Path of the label file."""

    def reader(self) -> contextlib.AbstractContextManager[LabelReader]:
        """A reader with file handles of its own."""


def open_labels(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: ClassOfValue) -> Labels:
    """The labels in the file `path` for a scene on `grid`; a raster must have the same pixels.

    Raises:
        InputError: the file is missing, cannot be read, is a raster on another grid, or a value maps to no class.
    """
    if path.exists() and not is_vector(path):
        problem = grid_problem(path, label_grid(path), grid)
        if problem is not None:
            raise problem
    return labels_on(path, grid, classes, attribute=attribute, values=values)


def labels_on(
    path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: ClassOfValue, resampled: bool = False
) -> Labels:
    """The labels in the file `path` on `grid`; `resampled`: a raster on another grid is resampled to the nearest pixel.

    Raises:
        InputError: the file is missing or cannot be read, or a value maps to no class.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    ids = ids_of_values(path, classes, values)
    if is_vector(path):
        return _polygons(path, grid, classes, attribute, ids)
    return RasterLabels(str(path), len(classes), classes.names, ids, grid if resampled else None)


def values_in(path: Path) -> NDArray[Any]:
    """The different values of a label raster, which is read at once and must fit into memory."""
    with reading(str(path)) as dataset:
        return np.unique(dataset.read(1))


@functools.cache
def _warn_if_changed(source: str) -> None:
    """Warn once for each file that its bytes differ from those that co2s wrote: corrected by hand, or damaged."""
    if was_changed(Path(source)):
        log.warning("%s: was changed after co2s wrote it; if nobody has corrected it by hand, it is damaged", source)


@dataclass(frozen=True, slots=True)
class RasterLabels:
    """Labels in a raster of one band."""

    source: str
    classes: int
    """Number of classes."""
    names: tuple[str, ...]
    """Class names by id."""
    values: dict[int | str, int]
    """Value in the raster → class id; if empty, the values are class ids themselves."""
    target_grid: Grid | None = None
    """Grid of the scene if the raster lies on another grid and is resampled; None if both are the same."""

    @contextlib.contextmanager
    def reader(self) -> Iterator[_LabelRasterReader]:
        """A reader with a GDAL handle of its own."""
        with reading(self.source) as dataset:
            if CHECKSUM_TAG in dataset.tags():
                _warn_if_changed(self.source)
            if self.target_grid is None:
                yield _LabelRasterReader(self, BandReader(self.source, dataset))
                return
            with warped_nearest(dataset, self.target_grid) as warped:
                yield _LabelRasterReader(self, BandReader(self.source, warped))

    def windows(self, height: int, width: int, *, margin: int) -> list[Window]:
        """Windows of a scene of `height` × `width` pixels around the regions of labels, as `PolygonLabels.windows`.

        Empty if there are too many to be places that somebody drew.
        """
        boxes: list[NDArray[np.float64]] = []
        regions = 0
        with self.reader() as reader:
            for row, bottom in spans(height, STRIP):
                for col, right in spans(width, STRIP):
                    mask = reader.read(Window(row, col, bottom - row, right - col)) != IGNORE
                    if regions > _MOST_REGIONS:
                        return []
                    shapes = features.shapes(mask.astype(np.uint8), mask=mask, connectivity=8)
                    outlines = shapely.from_geojson([json.dumps(geometry) for geometry, _ in shapes])
                    boxes.append(np.add(shapely.bounds(outlines), [col, row, col, row]))
                    regions += len(outlines)
        return _windows_around(np.concatenate(boxes), height, width, margin)

    def ids(self, raw: NDArray[Any], void: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(h, w) class ids of raw values; `IGNORE` where `void` (h, w) is True.

        Raises:
            InputError: a value is neither a class nor `IGNORE`.
        """
        class_ids = np.full(raw.shape, IGNORE, np.uint8)
        is_known = void.copy()
        if self.values:
            for value, class_id in self.values.items():
                matches = raw == value
                class_ids[matches] = class_id
                is_known |= matches
            is_known |= raw == IGNORE
        else:
            is_id = (raw >= 0) & (raw < self.classes) & (raw == np.floor(raw))
            class_ids[is_id] = raw[is_id].astype(np.uint8)
            is_known |= is_id | (raw == IGNORE)
        class_ids[void] = IGNORE
        if not is_known.all():
            unknown = ", ".join(f"{value:g}" for value in np.unique(raw[~is_known])[:5])
            wanted = few_of(self.values) if self.values else f"0 to {self.classes - 1} ({few_of(self.names)})"
            raise InputError(
                f"{self.source}: value {unknown} is no class; known are {wanted} and {IGNORE}", hint=_VALUES_HINT
            )
        return class_ids


@dataclass(frozen=True, slots=True)
class _LabelRasterReader:
    labels: RasterLabels
    band: BandReader

    def read(self, window: Window) -> NDArray[np.uint8]:
        raw = self.band.read(window)
        return self.labels.ids(raw, self._void(raw, window))

    def _void(self, raw: NDArray[Any], window: Window) -> NDArray[np.bool_]:
        """(h, w) True where nothing can be labelled: nodata, NaN, or outside a raster that is resampled."""
        void = np.isnan(raw)
        if self.labels.target_grid is not None:
            return np.asarray(void | (self.band.read(window, band=2) == 0))
        nodata = self.band.dataset.nodata
        return void if nodata is None else np.asarray(void | (raw == nodata))


@dataclass(frozen=True, slots=True)
class PolygonLabels:
    """Labels in polygons and points; where they overlap, the one that comes later in the file wins."""

    source: str
    shapes: NDArray[Any]
    """(polygons) shapely geometries in pixels (column, row)."""
    ids: NDArray[np.uint8]
    """(polygons) class ids."""
    tree: Any
    """Spatial index of the shapes."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the box around all polygons, in pixels."""
        left, top, right, bottom = map(float, shapely.total_bounds(self.shapes))
        return left, top, right, bottom

    def windows(self, height: int, width: int, *, margin: int) -> list[Window]:
        """Windows of a scene of `height` × `width` pixels around the polygons, widened by `margin` pixels on each side.

        No two windows share a pixel: those that would are joined into one.
        """
        return _windows_around(shapely.bounds(self.shapes), height, width, margin)

    @contextlib.contextmanager
    def reader(self) -> Iterator[PolygonLabels]:
        """This object itself: no file is opened, and threads may share it."""
        yield self

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(h, w) class ids; a pixel belongs to a polygon that holds its centre."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        hits = np.sort(self.tree.query(box, predicate="intersects"))
        shape = (window.height, window.width)
        if not hits.size:
            return np.full(shape, IGNORE, np.uint8)
        pairs = [(self.shapes[index], int(self.ids[index])) for index in hits]
        offset = Affine.translation(window.col, window.row)
        class_ids: NDArray[np.uint8] = features.rasterize(
            pairs, out_shape=shape, transform=offset, fill=IGNORE, dtype=np.uint8
        )
        return class_ids


def _windows_around(boxes: NDArray[np.float64], height: int, width: int, margin: int) -> list[Window]:
    """Windows around (n, 4) boxes (left, top, right, bottom), widened by `margin`, of which no two touch."""
    left, top = np.maximum(np.floor(boxes[:, :2]) - margin, 0).T
    right, bottom = np.minimum(np.ceil(boxes[:, 2:]) + margin, [width, height]).T
    inside = (left < right) & (top < bottom)
    joined = _joined(np.stack([left, top, right, bottom], axis=1)[inside])
    return [Window(top, left, bottom - top, right - left) for left, top, right, bottom in joined.astype(int).tolist()]


def _joined(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) boxes (left, top, right, bottom) of which no two touch: those that do become the box around them.

    Joining is repeated, because the box around two boxes may touch a third one.
    """
    while True:
        parts = shapely.get_parts(shapely.union_all(shapely.box(*boxes.T)))
        joined: NDArray[np.float64] = shapely.bounds(parts)
        if len(joined) == len(boxes):
            return joined
        boxes = joined


def _polygons(
    path: Path, grid: Grid, classes: ClassMap, attribute: str, values: Mapping[int | str, int]
) -> PolygonLabels:
    frame = read_shapes(path)
    if attribute not in frame.columns:
        raise no_attribute(path, frame, attribute)
    frame = _with_values(path, frame, attribute)
    ids = [class_of(path, value, classes, values) for value in frame[attribute]]
    shapes = in_pixels(path, frame, grid)
    return PolygonLabels(str(path), shapes, np.array(ids, np.uint8), shapely.STRtree(shapes))


def _with_values(path: Path, frame: Any, attribute: str) -> Any:
    """The polygons and points with a value in the attribute; the others are not labelled."""
    kept = frame[has_value(frame[attribute])]
    if kept.empty:
        raise InputError(f"{path}: the attribute {attribute} is empty in all {shape_noun(frame)}")
    if len(kept) < len(frame):
        log.warning(
            "%s: the attribute %s is empty in %d of %d %s, which are left out",
            path,
            attribute,
            len(frame) - len(kept),
            len(frame),
            shape_noun(frame),
        )
    return kept


def class_of(path: Path, value: Any, classes: ClassMap, values: Mapping[int | str, int]) -> int:
    """Class id of an attribute's value: by `values` if not empty, else by class name, else as an id."""
    if isinstance(value, bool | np.bool_):
        value = str(value)  # else true would be class 1
    text_or_id = int(float(value)) if isinstance(value, Real) and float(value).is_integer() else value
    if values:
        key = _as_number(text_or_id) if isinstance(text_or_id, str | int) else None
        if key is not None and key in values:
            return values[key]
    elif isinstance(text_or_id, str) and text_or_id in classes.names:
        return classes.id_of(text_or_id)
    elif isinstance(text_or_id, int) and 0 <= text_or_id < len(classes):
        return text_or_id
    raise InputError(
        f"{path}: {shown(text_or_id)} is no class (known: {few_of(values or classes.names)})",
        hint=_VALUES_HINT,
    )


def ids_of_values(path: Path, classes: ClassMap, values: ClassOfValue) -> dict[int | str, int]:
    """Class id of each value, `IGNORE` for "not labelled"; values that are whole numbers as text become numbers."""
    ids: dict[int | str, int] = {}
    for value, meaning in values.items():
        key, class_id = _as_number(value), _meaning_id(path, classes, value, meaning)
        if ids.setdefault(key, class_id) != class_id:
            raise InputError(f"{path}: values give {key} two meanings", hint="0 and '0' are the same value")
    names = [key for key in ids if isinstance(key, str)]
    if names and not is_vector(path):
        raise InputError(
            f"{path}: values name {few_of(names)}, a label raster holds numbers",
            hint="write the number that stands in the raster: values: {1: water}",
        )
    return ids


def _meaning_id(path: Path, classes: ClassMap, value: int | str, meaning: int | str | None) -> int:
    """Class id of a meaning: a class by its name or its id (also as text); `IGNORE` for None, 255 or `NO_CLASS`."""
    if isinstance(meaning, str) and meaning in classes.names:
        return classes.id_of(meaning)
    number = None if meaning is None else _as_number(meaning)
    if number is None or number == IGNORE or str(number).lower() in NO_CLASS:
        return IGNORE
    if isinstance(number, int) and 0 <= number < len(classes):
        return number
    raise InputError(f"{path}: values say {value}: {meaning}, which is no class (known: {few_of(classes.names)})")


def _as_number(value: int | str) -> int | str:
    """`value` as a whole number if it is the text of one, else `value` itself."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"0|-?[1-9]\d*", value) else value


def label_grid(path: Path) -> Grid:
    """The grid of a label raster.

    Raises:
        InputError: the raster cannot be read, or its samples are complex numbers.
    """
    with reading(str(path)) as dataset:
        if np.issubdtype(np.dtype(dataset.dtypes[0]), np.complexfloating):
            raise InputError(f"{path}: labels are whole numbers, found {dataset.dtypes[0]} samples")
        return Grid.of(dataset)


@contextlib.contextmanager
def warped_nearest(dataset: Any, grid: Grid) -> Iterator[Any]:
    """A virtual raster with `dataset`, of one band, resampled to the nearest pixel of `grid`; band 2 is 0 outside it.

    GDAL resamples in blocks that do not depend on the window that is read, and so no pixel depends on it either.
    """
    source_crs, target_crs = crs_pair(Grid.of(dataset), grid)
    with WarpedVRT(
        dataset,
        src_crs=source_crs,
        crs=target_crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling.nearest,
        add_alpha=True,
        tolerance=_TOLERANCE,
    ) as warped:
        yield warped


def crs_pair(source: Grid, target: Grid) -> tuple[CRS, CRS]:
    """The CRS of two grids: a grid without CRS is taken to have that of the other; without any, both get the same."""
    fallback = source.crs or target.crs or CRS.from_epsg(3857)
    return source.crs or fallback, target.crs or fallback
