"""Assembly of the output rasters from the finished units on disk."""

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
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.prepared import PreparedScene
from co2s_cli.inference.products import Plane
from co2s_cli.inference.scene_job import SceneJob
from co2s_cli.progress import Progress
from co2s_cli.resources import cores
from co2s_cli.tiling import Window


def write_rasters(
    job: SceneJob,
    *,
    classes: ClassMap,
    tags: Mapping[str, str],
    creation: Mapping[str, str],
    progress: Progress,
) -> NDArray[np.int64]:
    """Write the planes that the target names; the map appears last: if it exists, all rasters do.

    Returns:
        Pixels of each class id in the map, (256,).
    """
    writer = _PlaneWriter(job, classes, tags, creation)
    progress.start("writing", len(writer.planes), "raster")
    with contextlib.ExitStack() as stack:
        temporary_paths = [  # on exit they appear under their final names in reverse order: the map last
            stack.enter_context(unfinished(job.target.outputs[plane.name], layer_of(plane, classes)))
            for plane in writer.planes
        ]
        counts = np.zeros(256, np.int64)
        with ThreadPoolExecutor(min(len(temporary_paths), cores(1)), "raster") as pool:
            for plane_counts in pool.map(writer.write, writer.planes, temporary_paths):
                counts += plane_counts
                progress.advance()
    progress.close()
    return counts


@dataclass(frozen=True, slots=True)
class _PlaneWriter:
    """Writes the rasters of a job from its finished units, each to a temporary path."""

    job: SceneJob
    classes: ClassMap
    tags: Mapping[str, str]
    creation: Mapping[str, str]

    @property
    def planes(self) -> list[Plane]:
        """The planes that are written, the map first."""
        return [plane for plane in self.job.product.planes if plane.name in self.job.target.outputs]

    def write(self, plane: Plane, path: Path) -> NDArray[np.int64]:
        """Write one raster to `path`; returns the pixels of each class id, (256,), zeros for planes but the map."""
        scene, limit = self.job.scene.scene, self.job.memory.limit
        with environment(assembly_cache(scene.original.width, self.planes, limit)):  # one cache for all threads
            return self._resampled(plane, path) if scene.is_resampled else self._mosaic(plane, path)

    def _mosaic(self, plane: Plane, path: Path) -> NDArray[np.int64]:
        """Write the units unchanged, joined by GDAL."""
        job = self.job
        make_mosaic(
            path,
            job.parts.tiles(job.units, plane),
            grid=job.scene.scene.original,
            layer=layer_of(plane, self.classes),
            tags=self.tags,
            creation=self.creation,
        )
        return job.parts.counts(job.units, plane) if plane.name == CLASS else np.zeros(256, np.int64)

    def _resampled(self, plane: Plane, path: Path) -> NDArray[np.int64]:
        """Write the units resampled from the model's grid to the scene's, strip by strip."""
        job, counts = self.job, np.zeros(256, np.int64)
        layer = layer_of(plane, self.classes)
        with rows_of_raster(path, job.scene.scene.original, layer, self.tags, self.creation) as writer:
            for row, strip in _on_original(job.parts.strips(job.units, plane), plane, job.scene):
                writer.write(row, strip)
                if plane.name == CLASS:
                    counts += np.bincount(strip.ravel(), minlength=256)
        return counts


def layer_of(plane: Plane, classes: ClassMap) -> Layer:
    """Names, type, colours and nodata of the raster in which a plane is stored."""
    if plane.kind == "class":
        return class_layer(classes)
    if plane.kind == "probabilities":
        return probability_layer(classes, plane.dtype)
    return fraction_layer(plane.name, plane.dtype)


def _on_original(
    strips: Iterator[tuple[int, NDArray[Any]]], plane: Plane, prepared: PreparedScene
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Strips (first row, array (bands, rows, columns)) on the scene's grid, from strips on the model's grid."""
    scene = prepared.scene
    aoi = prepared.aoi.on(scene.original) if prepared.aoi else None
    with scene.on_original().reader() as reader:
        for row, strip in MapResampler.of(scene).stream(strips, mean=plane.kind != "class"):
            window = Window(row, 0, strip.shape[-2], strip.shape[-1])
            valid = reader.valid(window) if aoi is None else reader.valid(window) & aoi.mask(window)
            yield row, np.where(valid, strip, np.array(plane.blank, strip.dtype))


def assembly_cache(width: int, planes: Sequence[Plane], limit: int) -> int:
    """Bytes of GDAL's block cache while planes are written: a row of blocks of each plane, at most `limit` / 3."""
    pixel_bytes = sum(plane.pixel_bytes for plane in planes)
    return max(16_000_000, min(int(width * BLOCK * pixel_bytes * 1.25), limit // 3))
