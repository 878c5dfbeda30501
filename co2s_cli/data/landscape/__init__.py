"""A made-up landscape of any size with true labels: the sample, the tests and the benchmarks live on it."""

from co2s_cli.data.landscape.landscape import GROUND_RESOLUTION, TILE, Landscape
from co2s_cli.data.landscape.palette import BANDS, CLASSES

__all__ = ["BANDS", "CLASSES", "GROUND_RESOLUTION", "TILE", "Landscape"]
