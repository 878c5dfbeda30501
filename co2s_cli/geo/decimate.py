"""The whole scene in few pixels, and the first valid pixels of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from co2s_cli.geo.reading import Patch
from co2s_cli.tiling import Window

if TYPE_CHECKING:
    from co2s_cli.geo.reading import Reader

_STRIDE = 0.6180339887498949
"""Golden ratio: steps of it visit an interval evenly, whenever one stops."""


def overview(reader: Reader, max_size: int) -> Patch:
    """The scene decimated to at most `max_size` pixels on its longer side."""
    grid = reader.grid
    factor = max(1.0, max(grid.shape) / max_size)
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    return reader.decimated(height, width)


def first_valid(reader: Reader) -> Patch | None:
    """The first patch with a valid pixel, looking here and there over the scene; None where there is none."""
    for window in spread(reader.grid.height, reader.grid.width, reader.search_shape()):
        if reader.has_data(window):
            patch = reader.read(window)
            if patch.valid.any():
                return patch
    return None


def spread(height: int, width: int, shape: tuple[int, int]) -> Iterator[Window]:
    """All windows of a partition into `shape` pixels, in an order that visits every region early."""
    rows, cols = -(-height // shape[0]), -(-width // shape[1])
    count = rows * cols
    step = max(1, round(count * _STRIDE))
    while np.gcd(step, count) != 1:
        step += 1
    position = count // 2
    for _ in range(count):
        row, col = position // cols * shape[0], position % cols * shape[1]
        yield Window(row, col, min(shape[0], height - row), min(shape[1], width - col))
        position = (position + step) % count
