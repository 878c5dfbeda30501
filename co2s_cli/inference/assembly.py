"""Finished parts become the rasters that a user asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.write.map_back import MapResampler
from co2s_cli.geo.write.mosaic import make_mosaic
from co2s_cli.geo.write.raster import (
    BLOCK,
    Layer,
    class_layer,
    fraction_layer,
    probability_layer,
    rows_of_raster,
    unfinished,
)
from co2s_cli.inference.memory import cores
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import Plane
from co2s_cli.inference.scene_job import SceneJob
from co2s_cli.progress import Progress
from co2s_cli.tiling import Window


def write_rasters(
    job: SceneJob,
    *,
    classes: ClassMap,
    tags: Mapping[str, str],
    creation: Mapping[str, str],
    progress: Progress,
) -> NDArray[np.int64]:
    """Write the planes that the target names, the map last: once it is there, everything is.

    Returns:
        How often each class id occurs in the map, (256,).
    """
    writer = _PlaneWriter(job, classes, tags, creation)
    progress.start("writing", len(writer.planes), "raster")
    with contextlib.ExitStack() as stack:
        parts = [  # they appear in the reverse order
            stack.enter_context(unfinished(job.target.outputs[plane.name], layer_of(plane, classes)))
            for plane in writer.planes
        ]
        counts = np.zeros(256, np.int64)
        with ThreadPoolExecutor(min(len(parts), cores(1)), "raster") as pool:
            for plane_counts in pool.map(writer.make, writer.planes, parts):
                counts += plane_counts
                progress.advance()
    progress.close()
    return counts


@dataclass(frozen=True, slots=True)
class _PlaneWriter:
    """Makes the rasters of a job from its finished parts; they have yet to appear."""

    job: SceneJob
    classes: ClassMap
    tags: Mapping[str, str]
    creation: Mapping[str, str]

    @property
    def planes(self) -> list[Plane]:
        """The planes that are written, the classes first."""
        return [plane for plane in self.job.product.planes if plane.name in self.job.target.outputs]

    def make(self, plane: Plane, part: Path) -> NDArray[np.int64]:
        """Make one raster under the name `part`; how often each class id occurs, (256,), zeros but for the map."""
        scene, limit = self.job.scene.scene, self.job.memory.limit
        with environment(assembly_cache(scene.original.width, self.planes, limit)):  # all threads share the cache
            return self._resampled(plane, part) if scene.is_resampled else self._mosaic(plane, part)

    def _mosaic(self, plane: Plane, part: Path) -> NDArray[np.int64]:
        """The parts as they are, put together by GDAL."""
        job = self.job
        make_mosaic(
            part,
            job.parts.tiles(job.units, plane),
            grid=job.scene.scene.original,
            layer=layer_of(plane, self.classes),
            tags=self.tags,
            creation=self.creation,
        )
        return job.parts.counts(job.units, plane) if plane.name == CLASS else np.zeros(256, np.int64)

    def _resampled(self, plane: Plane, part: Path) -> NDArray[np.int64]:
        """The parts brought back to the scene's own pixels, strip by strip."""
        job, counts = self.job, np.zeros(256, np.int64)
        layer = layer_of(plane, self.classes)
        with rows_of_raster(part, job.scene.scene.original, layer, self.tags, self.creation) as writer:
            for row, strip in _on_original(job.parts.strips(job.units, plane), plane, job.scene):
                writer.write(row, strip)
                if plane.name == CLASS:
                    counts += np.bincount(strip.ravel(), minlength=256)
        return counts


def layer_of(plane: Plane, classes: ClassMap) -> Layer:
    """How a plane is stored."""
    if plane.kind == "class":
        return class_layer(classes)
    if plane.kind == "probabilities":
        return probability_layer(classes, plane.dtype)
    return fraction_layer(plane.name, plane.dtype)


def _on_original(
    strips: Iterator[tuple[int, NDArray[Any]]], plane: Plane, prepared: PreparedScene
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Strips (first row, array (bands, rows, columns)) on the scene's own pixels, from those that the model saw."""
    scene = prepared.scene
    aoi = prepared.aoi.on(scene.original) if prepared.aoi else None
    with scene.on_original().reader() as reader:
        for row, strip in MapResampler.of(scene).stream(strips, mean=plane.kind != "class"):
            window = Window(row, 0, strip.shape[-2], strip.shape[-1])
            valid = reader.valid(window) if aoi is None else reader.valid(window) & aoi.mask(window)
            yield row, np.where(valid, strip, np.array(plane.blank, strip.dtype))


def assembly_cache(width: int, planes: Sequence[Plane], limit: int) -> int:
    """Bytes of block cache while planes are written: a row of blocks of each, up to a third of the limit."""
    pixel_bytes = sum(plane.pixel_bytes for plane in planes)
    return max(16_000_000, min(int(width * BLOCK * pixel_bytes * 1.25), limit // 3))
