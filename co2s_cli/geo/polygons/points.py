"""Keep the points of arcs until both their sides have been given away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index, offsets, spans

Corners = NDArray[np.int32]


class Points:
    """Chunks of points under one consecutive numbering; a chunk goes when nothing in it is needed any more."""

    def __init__(self) -> None:
        self._chunks: dict[int, Corners] = {}
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Memory that the points take."""
        return sum(int(chunk.nbytes) for chunk in self._chunks.values())

    def add(self, points: Corners) -> int:
        """Keep some more; returns the number of the first."""
        first = self._end
        if len(points):
            self._chunks[first] = points
        self._end += len(points)
        return first

    def take(self, starts: Index, sizes: Index) -> tuple[Corners, Index]:
        """Copies of stretches of points, one after the other, and where each starts among them."""
        places = offsets(sizes)
        taken = np.empty((places[-1], 2), np.int32)
        for first, chunk in self._chunks.items():
            mine = np.flatnonzero((starts >= first) & (starts < first + len(chunk)))
            taken[spans(places[mine], sizes[mine])] = chunk[spans(starts[mine] - first, sizes[mine])]
        return taken, places[:-1]

    def keep(self, starts: Index) -> None:
        """Forget the chunks in which none of the stretches at `starts` lie."""
        firsts = np.fromiter(self._chunks, np.int64, len(self._chunks))
        needed = set(firsts[np.unique(np.searchsorted(firsts, starts, "right") - 1)]) if len(starts) else set()
        self._chunks = {first: chunk for first, chunk in self._chunks.items() if first in needed}
