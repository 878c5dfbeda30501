"""Finished parts become the rasters that a user asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import ClassMap
from co2s_cli.geo.write.map_back import WayBack
from co2s_cli.geo.write.raster import BLOCK, Layer, class_layer, fraction_layer, probability_layer, raster
from co2s_cli.inference.parts import Parts
from co2s_cli.inference.products import Plane
from co2s_cli.inference.subject import Subject
from co2s_cli.tiling import Window


def write_raster(
    path: Path,
    plane: Plane,
    *,
    parts: Parts,
    units: Sequence[Window],
    subject: Subject,
    classes: ClassMap,
    tags: Mapping[str, str],
    creation: Mapping[str, str],
    step: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Write one plane on the scene's own pixels; how often each id occurs, (256,), where it holds classes."""
    counts = np.zeros(256, np.int64)
    layer = layer_of(plane, classes)
    with raster(path, grid=subject.scene.original, layer=layer, tags=tags, creation=creation) as writer:
        for row, strip in _on_scene(parts.strips(units, plane), plane, subject):
            writer.write(row, strip)
            if plane.kind == "class":
                counts += np.bincount(strip.ravel(), minlength=256)
            step(strip.shape[-2])
    return counts


def layer_of(plane: Plane, classes: ClassMap) -> Layer:
    """How a plane is stored."""
    if plane.kind == "class":
        return class_layer(classes)
    if plane.kind == "probabilities":
        return probability_layer(classes, plane.dtype)
    return fraction_layer(plane.name, plane.dtype)


def _on_scene(
    strips: Iterator[tuple[int, NDArray[Any]]], plane: Plane, subject: Subject
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The same rows on the scene's own pixels, where the model saw resampled ones."""
    scene = subject.scene
    if not scene.is_resampled:
        yield from strips
        return
    aoi = subject.aoi.on(scene.original) if subject.aoi else None
    with scene.on_original().reader() as reader:
        for row, strip in WayBack.of(scene).stream(strips, mean=plane.kind != "class"):
            window = Window(row, 0, strip.shape[-2], strip.shape[-1])
            valid = reader.valid(window) if aoi is None else reader.valid(window) & aoi.mask(window)
            yield row, np.where(valid, strip, np.array(plane.blank, strip.dtype))


def assembly_cache(width: int, plane: Plane, limit: int) -> int:
    """Bytes of block cache while a plane is written: a row of blocks, unless that is more than memory allows."""
    return max(16_000_000, min(int(width * BLOCK * plane.pixel_bytes * 1.25), limit // 3))
