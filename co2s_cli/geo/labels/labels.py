"""Labels of a scene, window by window, as class ids: from a raster on its grid or from polygons."""

from __future__ import annotations

import contextlib
import functools
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
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.errors import InputError, shown
from co2s_cli.geo.checksum import CHECKSUM_TAG, was_changed
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.labels.polygon_file import in_pixels, no_attribute, said
from co2s_cli.geo.read.features import is_vector, read_polygons
from co2s_cli.geo.read.reader import BandReader
from co2s_cli.tiling import Window

log = logging.getLogger(__name__)

Meaning = Mapping[int | str, int | str | None]
"""Value in the labels → class by name or id, or None for "not labelled"."""

NO_CLASS = ("", "none", "null", "ignore")
"""Words for "not labelled", in any case, where no class has that name."""

_MEANING = "add the class, or say what the value means: values: in data.yaml, --values of `co2s evaluate`"


_TOLERANCE = 0.01
"""Pixels by which a warped place may be off; equal grids may differ by as much. Less takes 20 times as long."""


class LabelReader(Protocol):
    """Class ids of windows; for one thread."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Class ids (h, w) of `window`, which lies inside the scene; `IGNORE` where nothing is labelled."""


class Labels(Protocol):
    """The labels of one scene; nothing here is open."""

    @property
    def source(self) -> str:
        """The file."""

    def reader(self) -> contextlib.AbstractContextManager[LabelReader]:
        """A reader with handles of its own."""


def open_labels(path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: Meaning) -> Labels:
    """The labels in `path` for a scene on `grid`.

    Raises:
        InputError: missing, unreadable, of another grid, or with a meaning that is no class.
    """
    if path.exists() and not is_vector(path):
        problem = grid_problem(path, label_grid(path), grid)
        if problem is not None:
            raise problem
    return labels_onto(path, grid, classes, attribute=attribute, values=values)


def labels_onto(
    path: Path, grid: Grid, classes: ClassMap, *, attribute: str, values: Meaning, resampled: bool = False
) -> Labels:
    """The labels in `path` on `grid`; `resampled`: they lie on another one, and the nearest of their pixels counts.

    Raises:
        InputError: missing, unreadable, or with a meaning that is no class.
    """
    if not path.exists():
        raise InputError(f"{path}: no such label file")
    ids = meanings_of(path, classes, values)
    if is_vector(path):
        return _polygons(path, grid, classes, attribute, ids)
    return RasterLabels(str(path), len(classes), classes.names, ids, grid if resampled else None)


def values_in(path: Path) -> NDArray[Any]:
    """The different values of a label raster that is small enough to be held."""
    with reading(str(path)) as dataset:
        return np.unique(dataset.read(1))


@functools.cache
def _tell_changed(source: str) -> None:
    """Warn, once, of labels that co2s wrote and that are others now: damaged, or corrected by hand."""
    if was_changed(Path(source)):
        log.warning("%s: was changed after co2s wrote it; if nobody has corrected it by hand, it is damaged", source)


@dataclass(frozen=True, slots=True)
class RasterLabels:
    """A label raster."""

    source: str
    classes: int
    names: tuple[str, ...]
    values: dict[int | str, int]
    """Empty: the values are ids."""
    onto: Grid | None = None
    """The scene's grid where the raster lies on another one."""

    @contextlib.contextmanager
    def reader(self) -> Iterator[_LabelRasterReader]:
        """A reader with a GDAL handle of its own."""
        with reading(self.source) as dataset:
            if CHECKSUM_TAG in dataset.tags():
                _tell_changed(self.source)
            if self.onto is None:
                yield _LabelRasterReader(self, BandReader(self.source, dataset))
                return
            with warped_nearest(dataset, self.onto) as warped:
                yield _LabelRasterReader(self, BandReader(self.source, warped))

    def ids(self, raw: NDArray[Any], void: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Class ids of raw values, none where `void`; any other value that means nothing is refused."""
        out = np.full(raw.shape, IGNORE, np.uint8)
        known = void.copy()
        if self.values:
            for value, class_id in self.values.items():
                matches = raw == value
                out[matches] = class_id
                known |= matches
            known |= raw == IGNORE
        else:
            is_id = (raw >= 0) & (raw < self.classes)
            out[is_id] = raw[is_id].astype(np.uint8)
            known |= is_id | (raw == IGNORE)
        out[void] = IGNORE
        if not known.all():
            strange = ", ".join(f"{value:g}" for value in np.unique(raw[~known])[:5])
            wanted = few_of(self.values) if self.values else f"0 to {self.classes - 1} ({few_of(self.names)})"
            raise InputError(
                f"{self.source}: value {strange} is no class; known are {wanted} and {IGNORE}", hint=_MEANING
            )
        return out


@dataclass(frozen=True, slots=True)
class _LabelRasterReader:
    labels: RasterLabels
    band: BandReader

    def read(self, window: Window) -> NDArray[np.uint8]:
        raw = self.band.read(window)
        return self.labels.ids(raw, self._void(raw, window))

    def _void(self, raw: NDArray[Any], window: Window) -> NDArray[np.bool_]:
        """Where (h, w) nothing is labelled, True = void: nodata, or beyond a raster that is warped onto the grid."""
        if self.labels.onto is not None:
            return np.asarray(self.band.read(window, band=2) == 0)
        nodata = self.band.dataset.nodata
        void: NDArray[np.bool_] = np.zeros(raw.shape, np.bool_) if nodata is None else raw == nodata
        return void


@dataclass(frozen=True, slots=True)
class PolygonLabels:
    """Polygons with a class each; where they overlap the later one wins."""

    source: str
    shapes: NDArray[Any]
    """Shapely geometries in pixels (column, row)."""
    ids: NDArray[np.uint8]
    tree: Any
    """Spatial index of the shapes."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the box around all of them, in pixels."""
        left, top, right, bottom = map(float, shapely.total_bounds(self.shapes))
        return left, top, right, bottom

    def windows(self, height: int, width: int, *, margin: int) -> list[Window]:
        """Windows of a scene of `height` × `width` pixels around the polygons and `margin` pixels more.

        No two of them share a pixel: polygons whose windows would are in one window.
        """
        boxes = shapely.bounds(self.shapes)
        left, top = np.maximum(np.floor(boxes[:, :2]) - margin, 0).T
        right, bottom = np.minimum(np.ceil(boxes[:, 2:]) + margin, [width, height]).T
        inside = (left < right) & (top < bottom)
        boxes = _joined(np.stack([left, top, right, bottom], axis=1)[inside])
        return [
            Window(top, left, bottom - top, right - left) for left, top, right, bottom in boxes.astype(int).tolist()
        ]

    @contextlib.contextmanager
    def reader(self) -> Iterator[PolygonLabels]:
        """Nothing to open: all threads may share it."""
        yield self

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Class ids (h, w): a pixel is in a polygon where its centre is."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        hits = np.sort(self.tree.query(box, predicate="intersects"))
        shape = (window.height, window.width)
        if not hits.size:
            return np.full(shape, IGNORE, np.uint8)
        pairs = [(self.shapes[index], int(self.ids[index])) for index in hits]
        place = Affine.translation(window.col, window.row)
        burnt: NDArray[np.uint8] = rasterize(pairs, out_shape=shape, transform=place, fill=IGNORE, dtype=np.uint8)
        return burnt


def _joined(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (n; left, top, right, bottom), those that touch joined into the box around them, until none do."""
    while True:
        parts = shapely.get_parts(shapely.union_all(shapely.box(*boxes.T)))
        around: NDArray[np.float64] = shapely.bounds(parts)
        if len(around) == len(boxes):
            return around
        boxes = around


def _polygons(
    path: Path, grid: Grid, classes: ClassMap, attribute: str, values: Mapping[int | str, int]
) -> PolygonLabels:
    frame = read_polygons(path)
    if attribute not in frame.columns:
        raise no_attribute(path, frame, attribute)
    frame = _with_values(path, frame, attribute)
    ids = [class_of(path, value, classes, values) for value in frame[attribute]]
    shapes = in_pixels(path, frame, grid)
    return PolygonLabels(str(path), shapes, np.array(ids, np.uint8), shapely.STRtree(shapes))


def _with_values(path: Path, frame: Any, attribute: str) -> Any:
    """The polygons whose attribute says something; the others are not labelled."""
    kept = frame[said(frame[attribute])]
    if kept.empty:
        raise InputError(f"{path}: no polygon says its {attribute}, every value is empty")
    if len(kept) < len(frame):
        log.warning(
            "%s: %d of %d polygons say no %s and are left out", path, len(frame) - len(kept), len(frame), attribute
        )
    return kept


def class_of(path: Path, value: Any, classes: ClassMap, values: Mapping[int | str, int]) -> int:
    """Id of the class that an attribute's value names."""
    if isinstance(value, bool | np.bool_):
        value = str(value)  # else true would be class 1
    plain = int(float(value)) if isinstance(value, Real) and float(value).is_integer() else value
    if values:
        key = _as_number(plain) if isinstance(plain, str | int) else None
        if key is not None and key in values:
            return values[key]
    elif isinstance(plain, str) and plain in classes.names:
        return classes.id_of(plain)
    elif isinstance(plain, int) and 0 <= plain < len(classes):
        return plain
    raise InputError(
        f"{path}: {shown(plain)} is no class (known: {few_of(values or classes.names)})",
        hint=_MEANING,
    )


def meanings_of(path: Path, classes: ClassMap, values: Meaning) -> dict[int | str, int]:
    """Class id of each value, `IGNORE` for "not labelled"; whole numbers written as text are numbers."""
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
    """Class id of one meaning: a class by name, else by id (also as text), else one of `NO_CLASS`."""
    if isinstance(meaning, str) and meaning in classes.names:
        return classes.id_of(meaning)
    number = None if meaning is None else _as_number(meaning)
    if number is None or number == IGNORE or str(number).lower() in NO_CLASS:
        return IGNORE
    if isinstance(number, int) and 0 <= number < len(classes):
        return number
    raise InputError(f"{path}: values say {value}: {meaning}, which is no class (known: {few_of(classes.names)})")


def _as_number(value: int | str) -> int | str:
    """A whole number where `value` is the plain text of one, else `value`."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"0|-?[1-9]\d*", value) else value


def label_grid(path: Path) -> Grid:
    """The grid of a label raster.

    Raises:
        InputError: cannot be read, or holds no whole numbers.
    """
    with reading(str(path)) as dataset:
        if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(f"{path}: labels are whole numbers, the samples found are floats")
        return Grid.of(dataset)


@contextlib.contextmanager
def warped_nearest(dataset: Any, grid: Grid) -> Iterator[Any]:
    """An open one-band raster on `grid`; its second band is 0 where the raster holds nothing.

    GDAL resamples in blocks of its own, so that no pixel depends on the window in which it is read.
    """
    source_crs, target_crs = crs_of_both(Grid.of(dataset), grid)
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


def crs_of_both(source: Grid, target: Grid) -> tuple[CRS, CRS]:
    """The CRS of two grids; one that has none is taken to have the other's, and where both have none, any CRS does."""
    fallback = source.crs or target.crs or CRS.from_epsg(3857)
    return source.crs or fallback, target.crs or fallback
