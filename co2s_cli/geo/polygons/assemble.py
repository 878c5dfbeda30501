"""Turn a class raster into polygons that share their edges exactly, block of rows by block of rows.

A block is traced on its own (`split`, fit for another process). Regions inside it are complete; what touches the block
above or below goes to `Seams`, which joins the regions of neighbouring blocks and gives each away as soon as nothing
can touch it any more. Neither the polygons nor their order depend on the height of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons import rings
from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.points import Corners, Points
from co2s_cli.geo.polygons.regions import Regions, components
from co2s_cli.geo.polygons.rings import Halves, Rings
from co2s_cli.geo.polygons.tally import Tally
from co2s_cli.geo.polygons.trace import Arcs


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of regions besides their borders; one entry a region."""

    value: NDArray[np.uint16]
    """Class."""
    bottom: Index
    """Last row of pixels."""
    first: Index
    """First pixel in raster order, as a position in the raveled rows of the raster and its frame."""

    def take(self, which: Index | NDArray[np.bool_]) -> Facts:
        """Those of some regions."""
        return Facts(self.value[which], self.bottom[which], self.first[which])

    def merged(self, other: Facts, group: Index, count: int) -> Facts:
        """Those of both, where entries of the same group are one region."""
        value = np.zeros(count, np.uint16)
        value[group] = np.concatenate([self.value, other.value])
        bottom = np.full(count, -1, np.int64)
        np.maximum.at(bottom, group, np.concatenate([self.bottom, other.bottom]))
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, group, np.concatenate([self.first, other.first]))
        return Facts(value, bottom, first)

    @property
    def rank(self) -> Index:
        """Regions in the order in which they leave, the same for every height of blocks."""
        return np.lexsort((self.first, self.bottom))


@dataclass(frozen=True, slots=True)
class Polygons:
    """Complete polygons; `rings.region` counts them."""

    rings: Rings
    facts: Facts
    tally: Tally
    """How often each confidence occurs in each of them."""


@dataclass(frozen=True, slots=True)
class Loose:
    """The regions of a block that touch its first or last row of pixels; `halves` and `tally` count these."""

    halves: Halves
    points: Corners
    facts: Facts
    tally: Tally
    above: Index
    """Region of each run of the row above the block; -1 where no polygon is wanted."""
    below: Index
    """Region of each run of the block's last row."""


def split(found: Regions, arcs: Arcs, counts: Tally, top: int, wanted: NDArray[np.bool_]) -> tuple[Polygons, Loose]:
    """The complete polygons of a block, and the rest.

    Args:
        found: Regions of the row above the block and of the block.
        arcs: The arcs of the block, simplified or not.
        counts: Confidences in those regions.
        top: Row of the raster in which the block starts.
        wanted: (257) True for values that become polygons.
    """
    above, below = found.in_row(0), found.in_row(found.run_of.size // found.columns - 1)
    chosen, is_open = wanted[found.values], np.zeros(found.count, bool)
    is_open[above] = is_open[below] = True
    facts = Facts(found.values, found.bottom + top - 1, found.starts[found.first] + (top - 1) * found.columns)
    halves = _halves(arcs, chosen)
    number = _numbers(found.count, np.flatnonzero(chosen & is_open))
    points = Points()
    points.add(arcs.points)
    loose_halves, loose_points = _renumbered(halves, number, points)
    loose = Loose(
        loose_halves,
        loose_points,
        facts.take(chosen & is_open),
        counts.renumbered(number),
        number[above],
        number[below],
    )
    return _complete(np.flatnonzero(chosen & ~is_open), halves, arcs.points, facts, counts), loose


def _complete(which: Index, halves: Halves, points: Corners, facts: Facts, counts: Tally) -> Polygons:
    """The polygons of some regions all of whose halves are known."""
    which = which[facts.take(which).rank]
    number = _numbers(len(facts.value), which)
    mine = halves.take(number[halves.region] >= 0)
    joined = rings.join(replace(mine, region=number[mine.region]), points)
    return Polygons(joined, facts.take(which), counts.renumbered(number))


class Seams:
    """Joins the loose regions of blocks that follow each other from top to bottom."""

    def __init__(self) -> None:
        nothing = np.zeros(0, np.int64)
        flags = np.zeros(0, bool)
        self._halves = Halves(nothing, nothing, flags, nothing, nothing, flags, nothing)
        self._points = Points()
        self._facts = Facts(np.zeros(0, np.uint16), nothing, nothing)
        self._tally = Tally(nothing, nothing)
        self._below = nothing

    @property
    def nbytes(self) -> int:
        """Memory that open regions take."""
        return self._points.nbytes + self._halves.nbytes

    def join(self, loose: Loose) -> Polygons:
        """Add the next block; the polygons that are complete now."""
        group, count = self._groups(loose)
        mine = len(self._facts.value)
        facts = self._facts.merged(loose.facts, group, count)
        tally = self._tally.plus(loose.tally, shift=mine).renumbered(group)
        halves = self._with(loose, group)
        is_open = np.zeros(count, bool)
        is_open[group[mine + loose.below[loose.below >= 0]]] = True
        leaving = halves.take(~is_open[halves.region])
        points, starts = self._points.take(leaving.starts, leaving.sizes)
        complete = _complete(np.flatnonzero(~is_open), replace(leaving, starts=starts), points, facts, tally)
        still = _numbers(count, np.flatnonzero(is_open))
        self._halves = halves.take(is_open[halves.region])
        self._halves = replace(self._halves, region=still[self._halves.region])
        self._points.keep(self._halves.starts)
        self._facts, self._tally = facts.take(is_open), tally.renumbered(still)
        below = np.full(len(loose.below), -1, np.int64)
        below[loose.below >= 0] = still[group[mine + loose.below[loose.below >= 0]]]
        self._below = below
        return complete

    def _groups(self, loose: Loose) -> tuple[Index, int]:
        """Region of each open region so far and of each loose one, joined where they share runs; how many."""
        mine = len(self._facts.value)
        shared = np.flatnonzero(loose.above >= 0)
        roots = components(mine + len(loose.facts.value), self._below[shared], mine + loose.above[shared])
        names, group = np.unique(roots, return_inverse=True)
        return group, len(names)

    def _with(self, loose: Loose, group: Index) -> Halves:
        """All halves of open regions, under their new regions."""
        old = replace(self._halves, region=group[self._halves.region])
        first = self._points.add(loose.points)
        region = group[len(self._facts.value) + loose.halves.region]
        return old.plus(replace(loose.halves, starts=loose.halves.starts + first, region=region))


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


def _renumbered(halves: Halves, number: Index, points: Points) -> tuple[Halves, Corners]:
    """The halves of regions with a number, under that number, and a copy of their points."""
    mine = halves.take(number[halves.region] >= 0)
    arcs, index, which = np.unique(mine.starts, return_index=True, return_inverse=True)  # both halves share points
    taken, starts = points.take(arcs, mine.sizes[index])
    return replace(mine, starts=starts[which], region=number[mine.region]), taken


def _numbers(count: int, which: Index) -> Index:
    """For each of `count` its place in `which`, or -1."""
    numbers = np.full(count, -1, np.int64)
    numbers[which] = np.arange(len(which))
    return numbers
