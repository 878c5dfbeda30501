"""What tells one scene's pixels from another's without reading them all: part of the key of a resume."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from co2s_cli.geo.sources import is_local

_SAMPLE = 256


def identity_of(source: str, dataset: Any) -> str:
    """A stable string that changes when the pixels of an open dataset may have changed.

    It names every file that the dataset is made of (a VRT's sources, masks and overviews beside it) with size and
    time of change; where GDAL reads from anywhere else, a hash of some pixels stands for that. Viewers write their
    statistics to `.aux.xml` when they like: such a file holds no pixels and does not count.
    """
    files = [Path(name) for name in dataset.files if not name.endswith(".aux.xml")]
    facts: list[object] = [dataset.shape, dataset.dtypes, dataset.count, tuple(dataset.transform)]
    if files and all(path.is_file() for path in files):
        facts += [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    else:
        facts += [str(Path(source).resolve()) if is_local(source) else source, _sample(dataset)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _sample(dataset: Any) -> str:
    """A hash of the raster's first, middle and last pixels: three small reads also over a network."""
    height, width = min(_SAMPLE, dataset.height), min(_SAMPLE, dataset.width)
    digest = hashlib.sha256()
    for share in (0, 0.5, 1):
        row, col = int((dataset.height - height) * share), int((dataset.width - width) * share)
        digest.update(dataset.read(window=((row, row + height), (col, col + width))).tobytes())
    return digest.hexdigest()
