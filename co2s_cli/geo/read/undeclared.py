"""Tell pixels that are probably no data, though their file does not say so, from those of land."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

_MIN_SHARE = 0.05
"""Share of the scene from which such pixels are worth a remark."""

_OVERVIEW_SIZE = 1024
"""Longer side, in pixels, of the decimated scene in which they are counted."""


def undeclared_nodata(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(n) which of `values` (bands, n) have in every band the least, or in every band the greatest of all.

    Borders around a turned footprint do, and so may clouds that are too bright for the sensor: statistics of land are
    better without both. One band alone says nothing, its least value may be water.
    """
    if len(values) < 2 or not values.size:
        return np.zeros(values.shape[1:], np.bool_)
    is_end: NDArray[np.bool_] = (values == values.min()).all(axis=0) | (values == values.max()).all(axis=0)
    return is_end


def without_nodata(values: NDArray[Any]) -> NDArray[Any]:
    """`values` (bands, n) without those of `undeclared_nodata`; all of them if none were left."""
    kept = ~undeclared_nodata(values)
    return values[:, kept] if kept.any() else values


def border_remark(scene: Scene) -> str | None:
    """A sentence if much of a scene, up to one of its corners, is of one value in every band, its least or greatest.

    The scene is read as a whole only if a corner is of one value.
    """
    corners = _corner_values(scene)
    if not corners:
        return None
    patch = scene.overview(_OVERVIEW_SIZE)
    values = patch.pixels[:, patch.valid]
    found = values[0, undeclared_nodata(values)]
    for value in corners:
        share = np.count_nonzero(found == value) / patch.valid.size
        if share >= _MIN_SHARE and len(found) < values.shape[1]:
            return (
                f"{scene.source}: {100 * share:.0f} % of its pixels, up to its border, are {value:g} in every band and "
                f"count as land; if they are no data, mark them: rio edit-info --nodata {value:g} "
                f"{shlex.quote(scene.source)}"
            )
    return None


def _corner_values(scene: Scene) -> list[float]:
    """The values of valid corners whose bands, at least two, all have the same."""
    values = []
    with scene.reader() as reader:
        for row, col in ((0, 0), (0, scene.width - 1), (scene.height - 1, 0), (scene.height - 1, scene.width - 1)):
            patch = reader.read(Window(row, col, 1, 1))
            if patch.valid.all() and len(np.unique(patch.pixels)) == 1 < len(scene.bands):
                values.append(float(patch.pixels.flat[0]))
    return values
