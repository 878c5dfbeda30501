"""Polygons and points to draft a data.yaml from: which attribute names the classes, and what contradicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from co2s_cli.classes import IGNORE
from co2s_cli.config.init import InitConfig
from co2s_cli.data.draft.classes import LabelClasses, check_classes
from co2s_cli.data.sources import Source
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.labels.labels import PolygonLabels
from co2s_cli.geo.labels.polygon_file import (
    Attribute,
    attributes_of,
    in_pixels,
    intersects_grid,
    no_attribute,
    on_grid,
    only_classes,
    other_crs,
    overlaps,
)
from co2s_cli.geo.read.features import read_shapes, shape_noun
from co2s_cli.geo.read.scene import Scene

_DEFAULT_ATTRIBUTE = "class"
_MIN_OVERLAP = 0.1
"""Share of the smaller polygon from which an overlap counts; smaller ones are imprecise drawing of a common border."""


@dataclass(frozen=True, slots=True)
class PolygonFile:
    """A file of polygons and points, and the classes by one of its attributes."""

    path: Path
    frame: Any
    column: Attribute
    """The attribute that holds the class."""
    classes: LabelClasses
    refuses_overlaps: bool

    @classmethod
    def open(cls, settings: InitConfig) -> PolygonFile:
        """The polygons and points of --labels.

        Raises:
            ConfigError: --ignore, which belongs to a raster.
            InputError: they cannot be read, or no attribute names at least two classes.
        """
        if settings.ignore is not None:
            raise ConfigError(
                f"--ignore: names values of a raster, and {settings.labels} holds polygons or points",
                hint="polygons without a class are no labels; values: in data.yaml says more",
            )
        path = settings.labels
        frame = read_shapes(path)
        column = _class_attribute(path, frame, settings.attribute)
        classes = LabelClasses.of((value, str(value), None) for value in column.values)
        hint = "draw polygons of other land, too, as a second class, or name another --attribute"
        check_classes(f"{path}: attribute {column.name}", classes, column.values, hint=hint)
        return cls(path, frame, column, classes, settings.overlaps == "refuse")

    @property
    def attribute(self) -> str:
        """Name of the attribute that holds the class."""
        return self.column.name

    @property
    def noun(self) -> str:
        """What they are called together."""
        return shape_noun(self.frame)

    def on(self, scene: Scene) -> tuple[bool, int]:
        """Whether any lies on a scene, and how many do."""
        count = int(intersects_grid(in_pixels(self.path, self.frame, scene.grid), scene.grid).sum())
        return count > 0, count

    def lies_elsewhere(self, scenes: Sequence[Scene]) -> InputError:
        """The error if none lies on any scene, with the bounds of both in the scene's CRS."""
        first = scenes[0]
        frame = on_grid(self.path, self.frame, first.grid)
        boxes = [" ".join(f"{value:.6g}" for value in box) for box in (frame.total_bounds, first.grid.bounds())]
        crs_names = [crs.to_string() if crs else "no CRS" for crs in (self.frame.crs, first.crs)]
        more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        hint = f"is the CRS of one of the two files wrong? ({self.noun}: {crs_names[0]}, scene: {crs_names[1]})"
        if first.crs is None:
            hint += f"; a scene without a CRS wants {self.noun} in pixels: x = column, y = row from the top"
        return InputError(
            f"{self.path}: none of its {len(frame)} {self.noun} lies on {first.source}{more} "
            f"({self.noun} at {boxes[0]}, scene at {boxes[1]}, as west south east north in the scene's CRS)",
            hint=hint,
        )

    def polygons_by_class(self, sources: Sequence[Source]) -> list[int]:
        """Number of polygons and points of each class that label `sources`."""
        counts = np.zeros(len(self.classes.names), np.int64)
        for source in sources:
            assert isinstance(source.labels, PolygonLabels)
            ids = source.labels.ids[intersects_grid(source.labels.shapes, source.scene.grid)]
            counts += np.bincount(ids[ids != IGNORE], minlength=len(counts))
        return [int(count) for count in counts]

    def remarks(self, scenes: Sequence[Scene], polygons: Sequence[int | None], sources: Sequence[Source]) -> list[str]:
        """Remarks on CRS, position, missing values of the attribute, merged class names and overlaps.

        Raises:
            InputError: polygons of different classes overlap, and --overlaps refuses it.
        """
        count = len(self.frame)
        found = []
        polygon_crs = other_crs(self.frame, scenes[0].grid)
        if polygon_crs:
            scene_crs = scenes[0].crs.to_string()
            found.append(f"{self.path}: is in {polygon_crs}, reprojected to the scene's {scene_crs}")
        outside = count - (polygons[0] or 0)
        if outside > 0 and len(scenes) == 1:
            found.append(f"{self.path}: {outside} of {count} {self.noun} lie outside of {scenes[0].source}")
        empty = count - self.column.polygons
        if empty:
            found.append(f"{self.path}: {empty} of {count} {self.noun} have no {self.attribute} and are left out")
        class_names = [name for name in self.classes.values.values() if name]
        if len(set(class_names)) < len(class_names):
            found.append(f"{self.path}: values that differ only in case or blanks are one class (see values:)")
        return [*found, *self._overlaps(sources)]

    def _overlaps(self, sources: Sequence[Source]) -> list[str]:
        """A remark on overlapping polygons of different classes, which are refused unless the last one wins."""
        labels = sources[0].labels
        assert isinstance(labels, PolygonLabels)
        all_overlaps = overlaps(list(labels.shapes), labels.ids.tolist())
        large_overlaps = [pair for pair in all_overlaps if pair.share >= _MIN_OVERLAP and pair.area >= 1]
        if not large_overlaps:
            return []
        pair, count = large_overlaps[0], len(large_overlaps)
        first, second = (self._class_name(labels.ids[index]) for index in (pair.first, pair.second))
        remark = (
            f"{self.path}: {count} overlap{'s' * (count != 1)} of {self.noun} of different classes, "
            f"the largest of number {pair.first + 1} ({first}) with {pair.second + 1} ({second}): "
            f"{pair.area:.0f} pixels"
        )
        if self.refuses_overlaps:
            raise InputError(remark, hint="correct them, or let the later one of the file win with --overlaps last")
        return [f"{remark}; the later one wins"]

    def _class_name(self, class_id: int) -> str:
        return "not labelled" if class_id == IGNORE else self.classes.names[class_id]


def _class_attribute(path: Path, frame: Any, requested: str | None) -> Attribute:
    """The attribute that holds the classes: that of --attribute, else `class`, else the only one that can."""
    by_name = {attribute.name: attribute for attribute in attributes_of(frame)}
    if requested is None and _DEFAULT_ATTRIBUTE not in by_name:
        found = only_classes(frame)
        if found is None:
            raise no_attribute(path, frame, _DEFAULT_ATTRIBUTE)
        return found
    name = requested or _DEFAULT_ATTRIBUTE
    if name not in by_name:
        raise no_attribute(path, frame, name)
    attribute = by_name[name]
    if attribute.kind == "other" and attribute.values:
        raise InputError(
            f"{path}: attribute {name} holds neither text nor whole numbers (such as {attribute.values[0]})",
            hint=no_attribute(path, frame, name).hint,
        )
    return attribute
