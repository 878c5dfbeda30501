"""Cut a scene into places: squares side by side from its first pixel, without the remainders at the right and below."""

from __future__ import annotations

import math
from dataclasses import dataclass

from co2s_cli.config.vectorize import Amount
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.grid import Grid

_MIN_SIDE = 4
"""Least side of a place in pixels; a smaller one is of no use for drawing labels."""

_MAX_PLACES = 2**24
"""Most places of one scene, whose figures take half a gigabyte."""


@dataclass(frozen=True, slots=True)
class PlaceLattice:
    """The lattice of places of one scene."""

    side: int
    """Side of a place in pixels."""
    rows: int
    """Number of rows of places."""
    cols: int
    """Number of columns of places."""

    @classmethod
    def of(cls, size: Amount, grid: Grid, source: str) -> PlaceLattice:
        """The places with sides of `size` of the scene `source` on `grid`; metres are rounded to whole pixels.

        Raises:
            ConfigError: `size` is too small, or is in metres and the scene has no CRS.
            InputError: no place fits into the scene.
        """
        side = round(_pixels(size, grid, source))
        if side < _MIN_SIDE:
            raise ConfigError(f"--size {size}: is {side} pixels, at least {_MIN_SIDE} are wanted")
        rows, cols = grid.height // side, grid.width // side
        if not rows * cols:
            raise InputError(
                f"{source}: has {grid.width} × {grid.height} pixels, no place of {side} × {side} fits",
                hint="take a smaller --size",
            )
        if rows * cols > _MAX_PLACES:
            raise ConfigError(
                f"--size {size}: {source} has {rows * cols} places of this size, at most {_MAX_PLACES} are compared",
                hint="take a larger --size",
            )
        return cls(side, rows, cols)


def _pixels(size: Amount, grid: Grid, source: str) -> float:
    """`size` in pixels; metres are divided by the mean side of a pixel."""
    if size.unit == "px":
        return size.value
    pixel_size = grid.ground_size()
    if pixel_size is None:
        raise ConfigError(
            f"--size {size}: {source} has no CRS, so that the size of its pixels in metres is unknown",
            hint="give the size in pixels, such as 64px",
        )
    return size.value / math.sqrt(pixel_size[0] * pixel_size[1])
