"""Which points of the integer lattice lie in triangles with integer corners. Pure integer arithmetic."""

from __future__ import annotations

import numpy as np

from co2s_cli.geo.polygons.chains import Index, spans


def lattice_rows(triangles: Index) -> tuple[Index, Index, Index, Index]:
    """The lattice points in triangles, edges and corners included, row by row.

    Args:
        triangles: (triangles, 3, 2) corners x, y.

    Returns:
        For each row of each triangle: triangle, y, first x and last x; first > last where there is no point.
    """
    low, high = triangles[:, :, 1].min(axis=1), triangles[:, :, 1].max(axis=1)
    sizes = high - low + 1
    which = np.repeat(np.arange(len(triangles)), sizes)
    row = spans(low, sizes)
    first = np.full(len(which), np.iinfo(np.int64).max)
    last = np.full(len(which), np.iinfo(np.int64).min)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        (ax, ay), (bx, by) = triangles[which, start].T, triangles[which, end].T
        met = (np.minimum(ay, by) <= row) & (row <= np.maximum(ay, by))
        rise = np.where(ay == by, 1, by - ay)
        way = (bx - ax) * (row - ay)
        left = np.where(ay == by, np.minimum(ax, bx), ax - (-way // rise))
        right = np.where(ay == by, np.maximum(ax, bx), ax + way // rise)
        first = np.where(met, np.minimum(first, left), first)
        last = np.where(met, np.maximum(last, right), last)
    return which, row, first, last
