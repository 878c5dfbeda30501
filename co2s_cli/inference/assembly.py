"""Finished parts become the rasters that a user asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.write.map_back import WayBack
from co2s_cli.geo.write.raster import BLOCK, Layer, class_layer, fraction_layer, probability_layer, raster
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
    original, outputs = job.scene.scene.original, job.target.outputs
    planes = [plane for plane in job.product.planes if plane.name in outputs]
    progress.start("writing", original.height * len(planes), "row")
    counts = np.zeros(256, np.int64)
    for plane in reversed(planes):
        layer, is_map = layer_of(plane, classes), plane.kind == "class"
        with (
            environment(assembly_cache(original.width, plane, job.memory.limit)),
            raster(outputs[plane.name], grid=original, layer=layer, tags=tags, creation=creation) as writer,
        ):
            for row, strip in _on_original(job.parts.strips(job.units, plane), plane, job.scene):
                writer.write(row, strip)
                if is_map:
                    counts += np.bincount(strip.ravel(), minlength=256)
                progress.advance(strip.shape[-2])
    progress.close()
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
    """Strips (first row, array (bands, rows, columns)) on the scene's own pixels, if the model saw resampled ones."""
    scene = prepared.scene
    if not scene.is_resampled:
        yield from strips
        return
    aoi = prepared.aoi.on(scene.original) if prepared.aoi else None
    with scene.on_original().reader() as reader:
        for row, strip in WayBack.of(scene).stream(strips, mean=plane.kind != "class"):
            window = Window(row, 0, strip.shape[-2], strip.shape[-1])
            valid = reader.valid(window) if aoi is None else reader.valid(window) & aoi.mask(window)
            yield row, np.where(valid, strip, np.array(plane.blank, strip.dtype))


def assembly_cache(width: int, plane: Plane, limit: int) -> int:
    """Bytes of block cache while a plane is written: a row of blocks, unless that is more than memory allows."""
    return max(16_000_000, min(int(width * BLOCK * plane.pixel_bytes * 1.25), limit // 3))
