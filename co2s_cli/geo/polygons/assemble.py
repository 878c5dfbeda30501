"""Turn a class raster into polygons that share their edges exactly, block by block.

Each block is traced by itself, possibly in another process, and `split` divides its regions. A region that lies wholly
inside the block is complete. A region that touches the block's border is open: it may continue in a neighbouring block.
`SeamJoiner` joins open regions along the seams, first the blocks of a band of rows from left to right, then the bands
from top to bottom, and emits a region once no later block can extend it. Neither the polygons nor their order depend on
the size of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons import rings
from co2s_cli.geo.polygons.chains import Index, offsets, spans
from co2s_cli.geo.polygons.regions import Pixels, ValueCounts, components
from co2s_cli.geo.polygons.rings import Halves, Rings
from co2s_cli.geo.polygons.trace import Arcs, TracedBlock
from co2s_cli.tiling import Window


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """Class and position of regions; one entry a region."""

    value: NDArray[np.uint16]
    """Class id."""
    bottom: Index
    """Last row of the region in the raster."""
    first: Index
    """First pixel of the region in raster order: index into the raveled raster with a frame of one pixel around it."""

    def take(self, which: Index | NDArray[np.bool_]) -> RegionInfo:
        """The entries of the regions that an index or a mask (regions,) picks."""
        return RegionInfo(self.value[which], self.bottom[which], self.first[which])

    def merged(self, other: RegionInfo, group: Index, count: int) -> RegionInfo:
        """The entries of `count` groups, each of which is one region.

        `group` gives the group of each entry: first those of this object, then those of `other`.
        """
        value = np.zeros(count, np.uint16)
        value[group] = np.concatenate([self.value, other.value])
        bottom = np.full(count, -1, np.int64)
        np.maximum.at(bottom, group, np.concatenate([self.bottom, other.bottom]))
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, group, np.concatenate([self.first, other.first]))
        return RegionInfo(value, bottom, first)

    @property
    def rank(self) -> Index:
        """Indices of the regions in the order in which they are emitted, the same for every height of blocks."""
        return np.lexsort((self.first, self.bottom))


@dataclass(frozen=True, slots=True)
class Polygons:
    """Complete polygons; `rings.region` and `counts` are numbered by position in `info`."""

    rings: Rings
    info: RegionInfo
    counts: ValueCounts
    """Histogram of the confidences in each polygon."""


@dataclass(frozen=True, slots=True)
class OpenRegions:
    """The regions of a block or a band of blocks that touch its border; all region numbers are positions in `info`.

    `above`, `below`, `left` and `right` hold the region of each run of equal pixels along one edge, -1 where that
    class becomes no polygon.
    """

    halves: Halves
    points: Corners
    """(points, 2) corners x, y to which `halves` refers."""
    info: RegionInfo
    counts: ValueCounts
    """Histogram of the confidences in each region."""
    above: Index
    """Along the row above the block."""
    below: Index
    """Along the block's last row."""
    left: Index
    """Along the column left of the block; empty where there is no block on the left."""
    right: Index
    """Along the block's last column; empty where there is no block on the right."""

    def transposed(self) -> OpenRegions:
        """With left and right in the place of above and below, for blocks that are joined from left to right."""
        return replace(self, above=self.left, below=self.right, left=self.above, right=self.below)


def split(
    traced: TracedBlock, counts: ValueCounts, block: Window, *, width: int, wanted: NDArray[np.bool_]
) -> tuple[Polygons, OpenRegions]:
    """The complete polygons of a block, and its open regions.

    Args:
        traced: Regions and arcs of the block, simplified or not.
        counts: Histogram of the confidences in those regions.
        block: Position of the block in the raster.
        width: Columns of the raster.
        wanted: (257) True for values that become polygons.
    """
    regions, arcs, no_runs = traced.regions, traced.arcs, np.zeros(0, np.int64)
    above, below = regions.in_row(0), regions.in_row(block.height)
    left = regions.in_column(0) if block.col else no_runs
    right = regions.in_column(block.width) if block.right <= width else no_runs
    chosen, is_open = wanted[regions.values], np.zeros(regions.count, bool)
    is_open[np.concatenate([above, below, left, right])] = True
    row, col = np.divmod(regions.starts[regions.first], regions.columns)
    first = (row + block.row - 1) * (width + 2) + col + block.col
    info = RegionInfo(regions.values, regions.bottom + block.row - 1, first)
    halves = _halves(arcs, chosen)
    number = _numbers(regions.count, np.flatnonzero(chosen & is_open))
    vertices = VertexBuffer()
    vertices.add(arcs.points)
    open_halves, open_points = _renumbered(halves, number, vertices)
    open_regions = OpenRegions(
        open_halves,
        open_points,
        info.take(chosen & is_open),
        counts.renumbered(number),
        number[above],
        number[below],
        number[left],
        number[right],
    )
    return _complete(np.flatnonzero(chosen & ~is_open), halves, arcs.points, info, counts), open_regions


def no_open_regions(pixels: Pixels, block: Window, *, width: int) -> OpenRegions:
    """The open regions, as of `split`, of a block whose `pixels` (see `trace`) hold no class that becomes polygons."""
    inside, empty = pixels[:-1, :-1], np.zeros(0, np.int64)

    def unwanted_runs(line: Pixels) -> Index:
        return np.full(1 + np.count_nonzero(line[1:] != line[:-1]), -1)

    return OpenRegions(
        Halves.none(),
        np.zeros((0, 2), np.int32),
        RegionInfo(np.zeros(0, np.uint16), empty, empty),
        ValueCounts.none(),
        above=unwanted_runs(inside[0]),
        below=unwanted_runs(inside[-1]),
        left=unwanted_runs(inside[:, 0]) if block.col else empty,
        right=unwanted_runs(inside[:, -1]) if block.right <= width else empty,
    )


def _complete(chosen: Index, halves: Halves, points: Corners, info: RegionInfo, counts: ValueCounts) -> Polygons:
    """The polygons of the regions `chosen`; `halves` must hold all of their halves."""
    chosen = chosen[info.take(chosen).rank]
    number = _numbers(len(info.value), chosen)
    numbered = halves.take(number[halves.region] >= 0)
    joined = rings.join(replace(numbered, region=number[numbered.region]), points)
    return Polygons(joined, info.take(chosen), counts.renumbered(number))


class SeamJoiner:
    """Joins the open regions of blocks that follow each other from top to bottom, or `transposed` from left to right.

    Regions that touch the left or right side of the joined blocks stay open until `open_regions` takes them.
    """

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._halves = Halves.none()
        self._vertices = VertexBuffer()
        self._info = RegionInfo(np.zeros(0, np.uint16), empty, empty)
        self._counts = ValueCounts(empty, empty)
        self._below = self._left = self._right = empty

    @property
    def nbytes(self) -> int:
        """Bytes of the vertices and halves of open regions."""
        return self._vertices.nbytes + self._halves.nbytes

    def join(self, added: OpenRegions) -> Polygons:
        """Add the next block and return the polygons that it completes."""
        group, count = self._groups(added)
        old_count = len(self._info.value)
        info = self._info.merged(added.info, group, count)
        counts = self._counts.plus(added.counts, shift=old_count).renumbered(group)
        halves = self._with(added, group)
        below = _renumbered_edge(added.below, group[old_count:])
        left, right = (
            np.concatenate([_renumbered_edge(old, group), _renumbered_edge(new, group[old_count:])])
            for old, new in ((self._left, added.left), (self._right, added.right))
        )
        is_open = np.zeros(count, bool)
        for edge in (below, left, right):
            is_open[edge[edge >= 0]] = True
        closed_halves = halves.take(~is_open[halves.region])
        points, starts = self._vertices.take(closed_halves.starts, closed_halves.sizes)
        complete = _complete(np.flatnonzero(~is_open), replace(closed_halves, starts=starts), points, info, counts)
        open_number = _numbers(count, np.flatnonzero(is_open))
        self._halves = halves.take(is_open[halves.region])
        self._halves = replace(self._halves, region=open_number[self._halves.region])
        self._vertices.keep(self._halves.starts)
        self._info, self._counts = info.take(is_open), counts.renumbered(open_number)
        self._below, self._left, self._right = (_renumbered_edge(edge, open_number) for edge in (below, left, right))
        return complete

    def open_regions(self) -> OpenRegions:
        """The regions that are still open once all blocks of a band are joined, as if the band were one block."""
        halves, points = _renumbered(self._halves, np.arange(len(self._info.value)), self._vertices)
        empty = np.zeros(0, np.int64)
        return OpenRegions(halves, points, self._info, self._counts, self._left, self._right, empty, empty)

    def _groups(self, added: OpenRegions) -> tuple[Index, int]:
        """Group of each open region so far, then of each added one, and the number of groups.

        Regions that share a run along the seam are in one group.
        """
        old_count = len(self._info.value)
        shared = np.flatnonzero(added.above >= 0)
        roots = components(old_count + len(added.info.value), self._below[shared], old_count + added.above[shared])
        smallest, group = np.unique(roots, return_inverse=True)
        return group, len(smallest)

    def _with(self, added: OpenRegions, group: Index) -> Halves:
        """The halves of the open regions so far and of `added`, with the groups of their regions as region numbers."""
        old_halves = replace(self._halves, region=group[self._halves.region])
        first_vertex = self._vertices.add(added.points)
        region = group[len(self._info.value) + added.halves.region]
        return old_halves.plus(replace(added.halves, starts=added.halves.starts + first_vertex, region=region))


def _halves(arcs: Arcs, chosen: NDArray[np.bool_]) -> Halves:
    """The halves of arcs whose region is chosen; `chosen` (regions,) is True for these."""
    region = arcs.region.ravel()
    kept = np.flatnonzero(chosen[region])
    arc = kept // 2
    return Halves(
        arcs.starts[arc],
        np.diff(arcs.starts)[arc],
        kept % 2 == 1,
        arcs.keys.ravel()[kept],
        arcs.following.ravel()[kept],
        arcs.joint.ravel()[kept],
        region[kept],
    )


def _renumbered(halves: Halves, number: Index, vertices: VertexBuffer) -> tuple[Halves, Corners]:
    """The halves of regions r with number[r] >= 0, with that as their region number, and a copy of their points."""
    numbered = halves.take(number[halves.region] >= 0)
    # both halves of an arc share its points, which are copied once
    arc_starts, index, arc_of = np.unique(numbered.starts, return_index=True, return_inverse=True)
    copied, starts = vertices.take(arc_starts, numbered.sizes[index])
    return replace(numbered, starts=starts[arc_of], region=number[numbered.region]), copied


def _renumbered_edge(edge: Index, number: Index) -> Index:
    """The regions along an edge by their new numbers; -1 stays."""
    renumbered = np.full(len(edge), -1, np.int64)
    has_region = edge >= 0
    renumbered[has_region] = number[edge[has_region]]
    return renumbered


def _numbers(count: int, which: Index) -> Index:
    """(count) position in `which` of each of `count` regions; -1 for regions that are not in it."""
    numbers = np.full(count, -1, np.int64)
    numbers[which] = np.arange(len(which))
    return numbers


Corners = NDArray[np.int32]
"""(points, 2) corners x, y of pixels."""


class VertexBuffer:
    """The vertices of open regions, in chunks; a chunk is freed once no open region refers to it."""

    def __init__(self) -> None:
        self._chunks: dict[int, Corners] = {}
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks."""
        return sum(int(chunk.nbytes) for chunk in self._chunks.values())

    def add(self, points: Corners) -> int:
        """Append vertices (points, 2); the position of the first of them in the buffer."""
        first = self._end
        if len(points):
            self._chunks[first] = points
        self._end += len(points)
        return first

    def take(self, starts: Index, sizes: Index) -> tuple[Corners, Index]:
        """Copies of the vertices of arcs, arc after arc, and the index of the first vertex of each arc in the copy."""
        out_starts = offsets(sizes)
        copied = np.empty((out_starts[-1], 2), np.int32)
        for first, chunk in self._chunks.items():
            in_chunk = np.flatnonzero((starts >= first) & (starts < first + len(chunk)))
            copied[spans(out_starts[in_chunk], sizes[in_chunk])] = chunk[
                spans(starts[in_chunk] - first, sizes[in_chunk])
            ]
        return copied, out_starts[:-1]

    def keep(self, starts: Index) -> None:
        """Free the chunks that hold none of the arcs whose first vertices are at `starts`."""
        firsts = np.fromiter(self._chunks, np.int64, len(self._chunks))
        needed = set(firsts[np.unique(np.searchsorted(firsts, starts, "right") - 1)]) if len(starts) else set()
        self._chunks = {first: chunk for first, chunk in self._chunks.items() if first in needed}
