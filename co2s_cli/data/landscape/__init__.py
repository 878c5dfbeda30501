"""Synthetic landscapes of any size with exact labels, for `co2s sample`, tests and benchmarks."""

from co2s_cli.data.landscape.landscape import GROUND_RESOLUTION, TILE, Landscape
from co2s_cli.data.landscape.palette import BANDS, CLASSES

__all__ = ["BANDS", "CLASSES", "GROUND_RESOLUTION", "TILE", "Landscape"]
