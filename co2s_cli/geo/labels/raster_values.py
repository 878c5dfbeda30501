"""The values that a raster of labels holds, and what its file calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE, MAX_CLASSES, Color
from co2s_cli.errors import InputError
from co2s_cli.geo.legend import Legend
from co2s_cli.geo.read.reader import CHUNK_PIXELS, band_reader


@dataclass(frozen=True, slots=True)
class RasterValues:
    """The values of a raster of labels."""

    counts: dict[int, int]
    """Number of pixels by value, in ascending order; without nodata, 255 and NaN."""
    void: dict[int, int]
    """Number of pixels by value that means "not labelled" whatever its name: nodata and 255."""
    pixels: int
    """Number of all pixels."""
    names: dict[int, str]
    """Names of the values that have one in the file."""
    colors: dict[int, Color]
    """Colours of the values that have one of their own in the file's palette."""


def read_values(path: Path) -> RasterValues:
    """The values of the label raster `path`, read strip by strip.

    Raises:
        InputError: the file cannot be read, has several bands, or holds something other than the values of classes.
    """
    with band_reader(str(path)) as reader:
        dataset = reader.dataset
        if dataset.count > 1:
            raise InputError(f"{path}: {dataset.count} bands found, a raster of labels has one")
        nodata = dataset.nodata
        void = {int(value) for value in (IGNORE, nodata) if value is not None and float(value).is_integer()}
        counts: Counter[int] = Counter()
        rows = max(1, CHUNK_PIXELS // dataset.width)
        for top in range(0, dataset.height, rows):
            counts.update(_counts(path, reader.rows(top, min(top + rows, dataset.height)), nodata))
            if len(counts.keys() - void) > MAX_CLASSES:
                raise InputError(f"{path}: more than {MAX_CLASSES} different values found, which are no classes")
        legend = Legend.of(dataset)
        return RasterValues(
            counts={value: count for value, count in sorted(counts.items()) if value not in void},
            void={value: counts[value] for value in sorted(void)},
            pixels=dataset.height * dataset.width,
            names={value: legend.names[value] for value in sorted(counts) if value in legend.named},
            colors=_own_colors(legend, counts),
        )


def _counts(path: Path, raw: NDArray[Any], nodata: float | None) -> dict[int, int]:
    """Number of pixels by value; NaN, and nodata that is no whole number, are left out."""
    values, counts = np.unique(raw[~np.isnan(raw)], return_counts=True)
    whole = np.isfinite(values) & (values == np.floor(values))
    others = values[~whole & (values != nodata)]
    if others.size:
        raise InputError(f"{path}: {others[0]:g} is no whole number, as the values of classes are")
    return {int(value): int(count) for value, count in zip(values[whole], counts[whole], strict=True)}


def _own_colors(legend: Legend, values: Iterable[int]) -> dict[int, Color]:
    """Colours of the palette; black is none where several values have it, as GDAL fills palettes with it."""
    colors = {value: legend.palette[value] for value in values if value in legend.palette}
    black = [value for value, color in colors.items() if color == (0, 0, 0)]
    return {value: color for value, color in colors.items() if value not in black or len(black) == 1}
