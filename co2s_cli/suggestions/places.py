"""Cut a scene into places: squares side by side from its first pixel; what is left at the right and below is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from co2s_cli.config.vectorize import Amount
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.grid import Grid

_LEAST_SIDE = 4
"""Pixels; in less there is nothing to draw."""

_MOST_PLACES = 2**24
"""Places of one scene: their figures take half a gigabyte."""


@dataclass(frozen=True, slots=True)
class PlaceLattice:
    """The places of one scene."""

    side: int
    """Of a place in pixels."""
    rows: int
    """Places one below the other."""
    cols: int
    """Places side by side."""

    @classmethod
    def of(cls, size: Amount, grid: Grid, source: str) -> PlaceLattice:
        """The places of a scene on `grid`; metres are rounded to whole pixels.

        Raises:
            Co2sError: no place fits, or too many would, or metres are wanted where pixels have none.
        """
        side = round(_pixels(size, grid, source))
        if side < _LEAST_SIDE:
            raise ConfigError(f"--size {size}: is {side} pixels, at least {_LEAST_SIDE} are wanted")
        rows, cols = grid.height // side, grid.width // side
        if not rows * cols:
            raise InputError(
                f"{source}: is {grid.width} × {grid.height} pixels, no place of {side} × {side} fits",
                hint="take a smaller --size",
            )
        if rows * cols > _MOST_PLACES:
            raise ConfigError(
                f"--size {size}: {source} has {rows * cols} places of this size, at most {_MOST_PLACES} are compared",
                hint="take a larger --size",
            )
        return cls(side, rows, cols)


def _pixels(size: Amount, grid: Grid, source: str) -> float:
    if size.unit == "px":
        return size.value
    pixel_size = grid.ground_size()
    if pixel_size is None:
        raise ConfigError(
            f"--size {size}: {source} has no CRS, so that its pixels have no metres", hint="give it in pixels: 64px"
        )
    return size.value / math.sqrt(pixel_size[0] * pixel_size[1])
