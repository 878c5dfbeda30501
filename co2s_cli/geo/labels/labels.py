"""Labels of a scene, window by window, as class ids: from a raster on its grid or from polygons."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from co2s_cli.classes import IGNORE, ClassMap, few_of
from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import first_line, reading
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.onto import nearest
from co2s_cli.tiling import Window

VECTORS = frozenset({".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml"})
"""Suffixes of vector files; every other label file is a raster."""

Meaning = Mapping[int | str, int | str | None]
"""Value in the labels → class by name or id, or None for "not labelled"."""

_MEANING = "add the class, or say what the value means: values: in data.yaml, --values of `co2s evaluate`"

_SHIFT = 0.01
"""Part of a pixel by which two grids may differ and still be the same."""


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
    ids = _meanings(path, classes, values)
    if is_vector(path):
        return _polygons(path, grid, classes, attribute, ids)
    return RasterLabels(str(path), len(classes), classes.names, ids, grid if resampled else None)


def is_vector(path: Path) -> bool:
    """Whether a label file holds polygons, by its suffix."""
    return path.suffix.lower() in VECTORS


def values_in(path: Path) -> NDArray[Any]:
    """The different values of a label raster that is small enough to be held."""
    with reading(str(path)) as dataset:
        return np.unique(dataset.read(1))


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
    def reader(self) -> Iterator[_RasterReader]:
        """A reader with a GDAL handle of its own."""
        with reading(self.source) as dataset:
            if self.onto is None:
                yield _RasterReader(self, dataset)
                return
            with nearest(dataset, self.onto) as moved:
                yield _RasterReader(self, moved)

    def ids(self, raw: NDArray[Any], void: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Class ids of raw values, none where `void`; any other value that means nothing is refused."""
        out = np.full(raw.shape, IGNORE, np.uint8)
        known = void.copy()
        if self.values:
            for value, class_id in self.values.items():
                here = raw == value
                out[here] = class_id
                known |= here
            known |= raw == IGNORE
        else:
            here = (raw >= 0) & (raw < self.classes)
            out[here] = raw[here].astype(np.uint8)
            known |= here | (raw == IGNORE)
        out[void] = IGNORE
        if not known.all():
            found = ", ".join(f"{value:g}" for value in np.unique(raw[~known])[:5])
            wanted = few_of(self.values) if self.values else f"0 to {self.classes - 1} ({few_of(self.names)})"
            raise InputError(
                f"{self.source}: value {found} is no class; known are {wanted} and {IGNORE}", hint=_MEANING
            )
        return out


class _RasterReader:
    def __init__(self, labels: RasterLabels, dataset: Any) -> None:
        self._labels, self._dataset = labels, dataset

    def read(self, window: Window) -> NDArray[np.uint8]:
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            raw = self._dataset.read(1, window=place)
            void = self._void(raw, place)
        except RasterioError as error:
            raise InputError(f"{self._labels.source}: cannot be read ({first_line(error)})") from error
        return self._labels.ids(raw, void)

    def _void(self, raw: NDArray[Any], place: RasterioWindow) -> NDArray[np.bool_]:
        """Where the raster holds nothing: its nodata, and what lies beyond one that was brought onto another grid."""
        if self._labels.onto is not None:
            return np.asarray(self._dataset.read(2, window=place) == 0)
        nodata = self._dataset.nodata
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
    import geopandas  # only where polygons are given

    try:
        frame = geopandas.read_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read as polygons ({first_line(error)})") from error
    if attribute not in frame.columns:
        known = ", ".join(str(name) for name in frame.columns if name != "geometry")
        raise InputError(
            f"{path}: has no attribute {attribute!r} (found: {known})",
            hint="name another one: attribute: in data.yaml, --attribute of `co2s evaluate`",
        )
    frame = frame[frame.geom_type.isin(("Polygon", "MultiPolygon"))]
    if frame.empty:
        raise InputError(f"{path}: holds no polygon")
    if grid.crs is not None and frame.crs is None:
        raise InputError(f"{path}: does not say its CRS", hint="write it with a CRS, for example as GeoPackage")
    if grid.crs is not None:
        frame = frame.to_crs(grid.crs.to_wkt())
    ids = [_class_of(path, value, classes, values) for value in frame[attribute]]
    a, b, c, d, e, f = tuple(~grid.transform)[:6]
    shapes = shapely.transform(
        frame.geometry.make_valid().to_numpy(),
        lambda xy: np.column_stack((a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f)),
    )
    return PolygonLabels(str(path), shapes, np.array(ids, np.uint8), shapely.STRtree(shapes))


def _class_of(path: Path, value: Any, classes: ClassMap, values: Mapping[int | str, int]) -> int:
    """Id of the class that an attribute's value names."""
    if values:
        if value in values:
            return values[value]
    elif isinstance(value, str) and value in classes.names:
        return classes.id_of(value)
    elif not isinstance(value, str) and value is not None and 0 <= value < len(classes) and int(value) == value:
        return int(value)
    raise InputError(
        f"{path}: {value!r} is no class (known: {few_of(values or classes.names)})",
        hint=_MEANING,
    )


def _meanings(path: Path, classes: ClassMap, values: Meaning) -> dict[int | str, int]:
    """Class id of each value; `IGNORE` for "not labelled"."""
    ids: dict[int | str, int] = {}
    for value, meaning in values.items():
        if meaning is None or meaning == IGNORE:
            ids[value] = IGNORE
        elif isinstance(meaning, int) and 0 <= meaning < len(classes):
            ids[value] = meaning
        elif meaning in classes.names:
            ids[value] = classes.id_of(str(meaning))
        else:
            known = few_of(classes.names)
            raise InputError(f"{path}: values say {value}: {meaning}, which is no class (known: {known})")
    return ids


def label_grid(path: Path) -> Grid:
    """The grid of a label raster.

    Raises:
        InputError: cannot be read, or holds no whole numbers.
    """
    with reading(str(path)) as dataset:
        if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise InputError(f"{path}: labels are whole numbers, the samples found are floats")
        return Grid.of(dataset)


def grid_problem(path: Path, own: Grid, grid: Grid, *, of: str = "image") -> InputError | None:
    """Why the grid of a label raster is not that `of` its image, or its map; None where it is."""
    if own.shape != grid.shape:
        found, wanted = (f"{g.width} × {g.height}" for g in (own, grid))
        return InputError(f"{path}: is {found} pixels, its {of} {wanted}", hint=f"labels lie on the {of}'s own grid")
    if own.has_transform and grid.has_transform:
        step = max(abs(grid.transform.a), abs(grid.transform.b), abs(grid.transform.d), abs(grid.transform.e))
        corners = ((0, 0), (grid.width, 0), (0, grid.height))
        offsets = [abs(x - y) for c in corners for x, y in zip(own.at(*c), grid.at(*c), strict=True)]
        if max(offsets) > _SHIFT * step:
            return InputError(
                f"{path}: lies {max(offsets) / step:.3g} pixels off its {of}",
                hint=f"labels lie on the {of}'s own grid",
            )
    if own.crs and grid.crs and own.crs != grid.crs:
        return InputError(f"{path}: is in {own.crs.to_string()}, its {of} in {grid.crs.to_string()}")
    return None
