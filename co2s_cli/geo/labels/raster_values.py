"""The values that a raster of labels holds, and what its file calls them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from co2s_cli.classes import IGNORE, MAX_CLASSES, Color
from co2s_cli.errors import InputError
from co2s_cli.geo.legend import Legend
from co2s_cli.geo.read.reader import CHUNK_PIXELS, band_reader


@dataclass(frozen=True, slots=True)
class RasterValues:
    """The values of a raster of labels."""

    counts: dict[int, int]
    """Number of pixels by value, in ascending order; without pixels that are nodata, NaN or 255."""
    pixels: int
    """Number of all pixels."""
    void: frozenset[int]
    """Values that mean "not labelled" whatever their name: nodata and 255."""
    names: dict[int, str]
    """Names of the values that have one in the file."""
    colors: dict[int, Color]
    """Colours of the values; empty if the file has no palette."""


def read_values(path: Path) -> RasterValues:
    """The values of the label raster `path`, read strip by strip.

    Raises:
        InputError: the file cannot be read, has several bands, or holds something other than the values of classes.
    """
    with band_reader(str(path)) as reader:
        dataset = reader.dataset
        if dataset.count > 1:
            raise InputError(f"{path}: {dataset.count} bands found, a raster of labels has one")
        counts: Counter[int] = Counter()
        rows = max(1, CHUNK_PIXELS // dataset.width)
        for top in range(0, dataset.height, rows):
            raw = reader.rows(top, min(top + rows, dataset.height))
            counts.update(_counts(path, raw, dataset.nodata))
            if len(counts) > MAX_CLASSES:
                raise InputError(f"{path}: more than {MAX_CLASSES} different values found, which are no classes")
        legend = Legend.of(dataset)
        names = {
            value: legend.names[value]
            for value in counts
            if 0 <= value < legend.named_count and legend.names[value] != f"class {value}"
        }
        has_palette = dataset.colorinterp[0] == ColorInterp.palette
        colors = {value: legend.colors[value] for value in counts if has_palette and 0 <= value < IGNORE}
        nodata = dataset.nodata
        is_whole = nodata is not None and float(nodata).is_integer()
        void = frozenset({IGNORE, int(nodata)} if is_whole else {IGNORE})
        return RasterValues(dict(sorted(counts.items())), dataset.height * dataset.width, void, names, colors)


def _counts(path: Path, raw: NDArray[Any], nodata: float | None) -> dict[int, int]:
    """Number of pixels by value, without those that label nothing."""
    labeled = raw[~np.isnan(raw) & (raw != IGNORE) & (raw != nodata)]
    values, counts = np.unique(labeled, return_counts=True)
    fractions = values[values != np.floor(values)]
    if fractions.size:
        raise InputError(f"{path}: {fractions[0]:g} is no whole number, as the values of classes are")
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
