"""Tell a border that is probably no data, though the file does not say so, from land."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.gdal import reading
from co2s_cli.geo.read.reader import Patch
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.sources import is_local
from co2s_cli.tiling import Window

SAMPLE_SIZE = 1024
"""Longer side, in pixels, of the decimated scene from which statistics are computed."""

_MIN_SHARE = 0.05
"""Share of the scene from which pixels like a corner count as its border."""

_CORNERS = ((0, 0), (0, -1), (-1, 0), (-1, -1))


def land_values(patch: Patch) -> NDArray[Any]:
    """(bands, n) the valid pixels of a decimated scene, without those of a border that the file does not declare.

    All valid ones if a band would become constant without the border.
    """
    border = np.zeros(patch.valid.shape, np.bool_)
    for value in _border_values(patch):
        border |= (patch.pixels == value).all(axis=0)
    values, land = patch.pixels[:, patch.valid], patch.pixels[:, patch.valid & ~border]
    return land if land.size and (_varies(land) == _varies(values)).all() else values


def border_remark(scene: Scene) -> str | None:
    """A sentence on a border that the file does not declare; the scene is read only if a corner looks like one."""
    if not any(_one_value(patch.pixels[:, 0, 0], patch.valid[0, 0]) for patch in _exact_corners(scene)):
        return None
    patch = scene.overview(SAMPLE_SIZE)
    for value in _border_values(patch):
        share = _share(patch, value)
        if share < np.count_nonzero(patch.valid) / patch.valid.size:
            return (
                f"{scene.source}: {100 * share:.0f} % of its pixels, up to a corner, are {_exact(value)} in every band "
                f"and count as land; if they are no data, {_remedy(scene, _exact(value))}"
            )
    return None


def _border_values(patch: Patch) -> list[float]:
    """The values that a corner has in each of several bands, and with it `_MIN_SHARE` of the scene.

    One band alone says nothing: its dark corner may be water. Clouds that are too bright for the sensor may be taken
    for a border, so that nothing is masked by it.
    """
    corners = {
        float(patch.pixels[0, row, col])
        for row, col in _CORNERS
        if _one_value(patch.pixels[:, row, col], patch.valid[row, col])
    }
    return [value for value in sorted(corners) if _share(patch, value) >= _MIN_SHARE]


def _one_value(samples: NDArray[Any], valid: np.bool_) -> bool:
    """Whether a valid pixel has the same value in all of its bands, of which there are several."""
    return bool(valid) and len(samples) > 1 and bool((samples == samples[0]).all())


def _share(patch: Patch, value: float) -> float:
    """The share of the scene that is valid and has `value` in every band."""
    return float(((patch.pixels == value).all(axis=0) & patch.valid).mean())


def _varies(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(bands) whether the values (bands, n) of a band differ."""
    varies: NDArray[np.bool_] = (values != values[:, :1]).any(axis=1)
    return varies


def _exact_corners(scene: Scene) -> list[Patch]:
    """The four pixels in the corners of a scene."""
    with scene.reader() as reader:
        return [reader.read(Window(row % scene.height, col % scene.width, 1, 1)) for row, col in _CORNERS]


def _remedy(scene: Scene, value: str) -> str:
    """How a user says that `value` is no data; a file declares one nodata value at most, which alpha or a mask beat."""
    rules = scene.rules
    if rules.declared is not None:
        return f"give them the file's nodata value {_exact(rules.declared)}, which they do not have"
    with reading(scene.source) as dataset:
        is_plain = dataset.driver == "GTiff" and dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG"
    if is_plain and is_local(scene.source) and rules.alpha is None and not rules.whole_mask:
        return f"mark them: rio edit-info --nodata {value} {shlex.quote(scene.source)}"
    return f"say so with nodata: {value} for the image in data.yaml, and with --nodata {value} in co2s predict"


def _exact(value: float) -> str:
    """A value with all its digits, so that a command finds it."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
