"""Turn a class raster into polygons that share their edges exactly, block by block.

A block is traced on its own (`split`, fit for another process). Regions inside it are complete; what touches the blocks
around it goes to `Seams`, which joins the regions of neighbouring blocks and gives each away as soon as nothing can
touch it any more: first the blocks of a band of rows from left to right, then the bands from top to bottom. Neither the
polygons nor their order depend on the size of the blocks.
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
    """Class and place of regions; one entry a region."""

    value: NDArray[np.uint16]
    """Class."""
    bottom: Index
    """Last row of pixels."""
    first: Index
    """First pixel in raster order, as a position in the raveled rows of the raster and its frame."""

    def take(self, which: Index | NDArray[np.bool_]) -> RegionInfo:
        """The entries of some regions."""
        return RegionInfo(self.value[which], self.bottom[which], self.first[which])

    def merged(self, other: RegionInfo, group: Index, count: int) -> RegionInfo:
        """The entries of both, where entries of the same group are one region."""
        value = np.zeros(count, np.uint16)
        value[group] = np.concatenate([self.value, other.value])
        bottom = np.full(count, -1, np.int64)
        np.maximum.at(bottom, group, np.concatenate([self.bottom, other.bottom]))
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, group, np.concatenate([self.first, other.first]))
        return RegionInfo(value, bottom, first)

    @property
    def rank(self) -> Index:
        """Regions in the order in which they leave, the same for every height of blocks."""
        return np.lexsort((self.first, self.bottom))


@dataclass(frozen=True, slots=True)
class Polygons:
    """Complete polygons; `rings.region` counts them."""

    rings: Rings
    info: RegionInfo
    counts: ValueCounts
    """How often each confidence occurs in each of them."""


@dataclass(frozen=True, slots=True)
class OpenRegions:
    """The regions of a block or a band that touch its border; `halves` and `counts` count these."""

    halves: Halves
    points: Corners
    info: RegionInfo
    counts: ValueCounts
    above: Index
    """Region of each run of the row above the block; -1 where no polygon is wanted."""
    below: Index
    """Region of each run of the block's last row."""
    left: Index
    """Region of each run of the column left of the block; empty where no block is there."""
    right: Index
    """Region of each run of the block's last column; empty where no block is right of it."""

    def turned(self) -> OpenRegions:
        """With rows in the place of columns, for blocks that are joined from left to right."""
        return replace(self, above=self.left, below=self.right, left=self.above, right=self.below)


def split(
    traced: TracedBlock, counts: ValueCounts, block: Window, *, width: int, wanted: NDArray[np.bool_]
) -> tuple[Polygons, OpenRegions]:
    """The complete polygons of a block, and the rest.

    Args:
        traced: Its regions and arcs, simplified or not.
        counts: Confidences in those regions.
        block: Where it lies.
        width: Columns of the raster.
        wanted: (257) True for values that become polygons.
    """
    regions, arcs, nothing = traced.regions, traced.arcs, np.zeros(0, np.int64)
    above, below = regions.in_row(0), regions.in_row(block.height)
    left = regions.in_column(0) if block.col else nothing
    right = regions.in_column(block.width) if block.right <= width else nothing
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


def nothing_open(pixels: Pixels, block: Window, *, width: int) -> OpenRegions:
    """What `split` leaves open of a block whose `pixels`, traced as in `trace`, hold nothing that is wanted."""
    inside, nothing = pixels[:-1, :-1], np.zeros(0, np.int64)

    def unwanted(line: Pixels) -> Index:
        return np.full(1 + np.count_nonzero(line[1:] != line[:-1]), -1)

    return OpenRegions(
        Halves.none(),
        np.zeros((0, 2), np.int32),
        RegionInfo(np.zeros(0, np.uint16), nothing, nothing),
        ValueCounts.none(),
        above=unwanted(inside[0]),
        below=unwanted(inside[-1]),
        left=unwanted(inside[:, 0]) if block.col else nothing,
        right=unwanted(inside[:, -1]) if block.right <= width else nothing,
    )


def _complete(chosen: Index, halves: Halves, points: Corners, info: RegionInfo, counts: ValueCounts) -> Polygons:
    """The polygons of the chosen regions, all of whose halves are in `halves`."""
    chosen = chosen[info.take(chosen).rank]
    number = _numbers(len(info.value), chosen)
    numbered = halves.take(number[halves.region] >= 0)
    joined = rings.join(replace(numbered, region=number[numbered.region]), points)
    return Polygons(joined, info.take(chosen), counts.renumbered(number))


class Seams:
    """Joins the open regions of blocks that follow each other from top to bottom, or `turned` from left to right.

    Regions that touch the sides of the whole stay open to its end.
    """

    def __init__(self) -> None:
        nothing = np.zeros(0, np.int64)
        self._halves = Halves.none()
        self._vertices = VertexBuffer()
        self._info = RegionInfo(np.zeros(0, np.uint16), nothing, nothing)
        self._counts = ValueCounts(nothing, nothing)
        self._below = self._left = self._right = nothing

    @property
    def nbytes(self) -> int:
        """Memory that open regions take."""
        return self._vertices.nbytes + self._halves.nbytes

    def join(self, added: OpenRegions) -> Polygons:
        """Add the next block; the polygons that are complete now."""
        group, count = self._groups(added)
        held = len(self._info.value)
        info = self._info.merged(added.info, group, count)
        counts = self._counts.plus(added.counts, shift=held).renumbered(group)
        halves = self._with(added, group)
        below = _renamed(added.below, group[held:])
        left, right = (
            np.concatenate([_renamed(old, group), _renamed(new, group[held:])])
            for old, new in ((self._left, added.left), (self._right, added.right))
        )
        is_open = np.zeros(count, bool)
        for edge in (below, left, right):
            is_open[edge[edge >= 0]] = True
        leaving = halves.take(~is_open[halves.region])
        points, starts = self._vertices.take(leaving.starts, leaving.sizes)
        complete = _complete(np.flatnonzero(~is_open), replace(leaving, starts=starts), points, info, counts)
        open_number = _numbers(count, np.flatnonzero(is_open))
        self._halves = halves.take(is_open[halves.region])
        self._halves = replace(self._halves, region=open_number[self._halves.region])
        self._vertices.keep(self._halves.starts)
        self._info, self._counts = info.take(is_open), counts.renumbered(open_number)
        self._below, self._left, self._right = (_renamed(edge, open_number) for edge in (below, left, right))
        return complete

    def rest(self) -> OpenRegions:
        """What is still open once blocks of a band have been joined from left to right: the band as one block."""
        halves, points = _renumbered(self._halves, np.arange(len(self._info.value)), self._vertices)
        nothing = np.zeros(0, np.int64)
        return OpenRegions(halves, points, self._info, self._counts, self._left, self._right, nothing, nothing)

    def _groups(self, added: OpenRegions) -> tuple[Index, int]:
        """Region of each open region so far and of each added one, joined where they share runs; how many."""
        held = len(self._info.value)
        shared = np.flatnonzero(added.above >= 0)
        roots = components(held + len(added.info.value), self._below[shared], held + added.above[shared])
        smallest, group = np.unique(roots, return_inverse=True)
        return group, len(smallest)

    def _with(self, added: OpenRegions, group: Index) -> Halves:
        """All halves of open regions, under their new regions."""
        old = replace(self._halves, region=group[self._halves.region])
        first = self._vertices.add(added.points)
        region = group[len(self._info.value) + added.halves.region]
        return old.plus(replace(added.halves, starts=added.halves.starts + first, region=region))


def _halves(arcs: Arcs, chosen: NDArray[np.bool_]) -> Halves:
    """Both halves of every arc, without those of regions that are not chosen."""
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
    """The halves of regions whose number is not -1, under that number, and a copy of their points."""
    numbered = halves.take(number[halves.region] >= 0)
    arc_starts, index, arc_of = np.unique(
        numbered.starts, return_index=True, return_inverse=True
    )  # both halves share points
    copied, starts = vertices.take(arc_starts, numbered.sizes[index])
    return replace(numbered, starts=starts[arc_of], region=number[numbered.region]), copied


def _renamed(edge: Index, number: Index) -> Index:
    """Regions of an edge by their new numbers; -1 stays."""
    renamed = np.full(len(edge), -1, np.int64)
    known = edge >= 0
    renamed[known] = number[edge[known]]
    return renamed


def _numbers(count: int, which: Index) -> Index:
    """For each of `count` regions its position in `which`, or -1."""
    numbers = np.full(count, -1, np.int64)
    numbers[which] = np.arange(len(which))
    return numbers


Corners = NDArray[np.int32]


class VertexBuffer:
    """The vertices of open regions, in chunks; a chunk is freed once no open region refers to it."""

    def __init__(self) -> None:
        self._chunks: dict[int, Corners] = {}
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Memory that the points take."""
        return sum(int(chunk.nbytes) for chunk in self._chunks.values())

    def add(self, points: Corners) -> int:
        """Append vertices; returns the position of the first."""
        first = self._end
        if len(points):
            self._chunks[first] = points
        self._end += len(points)
        return first

    def take(self, starts: Index, sizes: Index) -> tuple[Corners, Index]:
        """Copies of the vertices of arcs, one arc after the other, and where each arc starts among them."""
        out_starts = offsets(sizes)
        copied = np.empty((out_starts[-1], 2), np.int32)
        for first, chunk in self._chunks.items():
            in_chunk = np.flatnonzero((starts >= first) & (starts < first + len(chunk)))
            copied[spans(out_starts[in_chunk], sizes[in_chunk])] = chunk[
                spans(starts[in_chunk] - first, sizes[in_chunk])
            ]
        return copied, out_starts[:-1]

    def keep(self, starts: Index) -> None:
        """Free the chunks in which none of the arcs that begin at `starts` lie."""
        firsts = np.fromiter(self._chunks, np.int64, len(self._chunks))
        needed = set(firsts[np.unique(np.searchsorted(firsts, starts, "right") - 1)]) if len(starts) else set()
        self._chunks = {first: chunk for first, chunk in self._chunks.items() if first in needed}
