"""Merge small regions into their neighbours, as far as it can be told from a part of the raster.

In rounds, every small region joins the neighbour with which it shares the longest edge; of several the larger one,
then the one with the smaller class, then the one that comes first. Two that choose each other become the larger one's
class. Regions of one class that touch after a round are one region. It ends when no region is small that has a
neighbour; nodata is none.

Of a region that reaches beyond the part that is looked at, the area is not known but at least what is seen. Where a
choice may depend on what is not seen, the region is called open, and so is, round by round, what may depend on it:
all that is not open has the class that a look at the whole raster gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.adjacency import Edges
from co2s_cli.geo.chains import Index
from co2s_cli.geo.regions import components

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Graph:
    """Regions and their edges; one entry a region."""

    value: Index
    area: Index
    """Where not all is seen, what is seen."""
    first: Index
    """A number that no other region has, of the first pixel."""
    whole: Flags
    """True where the area is known."""
    open: Flags
    """True where the class is not known."""
    edges: Edges
    """Between regions that can be merged."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What small means."""

    small: float
    """Areas below it are small."""
    large: int
    """Areas from here on count as equally large, so that nobody has to look for the ends of the largest regions."""


def sieve(graph: Graph, limits: Limits) -> tuple[Index, Flags]:
    """The class of each region after merging, and True where it is not known."""
    region = np.arange(len(graph.value))
    graph = _opened(replace(graph, open=graph.open | (~graph.whole & (graph.area < limits.small))), limits)
    while True:
        chosen, unsure = _choices(graph, limits)
        is_open = graph.open | unsure
        root = _roots(graph, np.where(is_open, np.arange(len(chosen)), chosen))
        is_open |= is_open[root]
        root = np.where(is_open, np.arange(len(root)), root)
        if np.array_equal(is_open, graph.open) and np.array_equal(root, np.arange(len(root))):
            return graph.value[region], graph.open[region]
        graph = replace(graph, open=is_open)
        graph, number = _merged(graph, root)
        graph = _opened(graph, limits)
        region = number[region]


def _opened(graph: Graph, limits: Limits) -> Graph:
    """What an open neighbour makes uncertain: the class of small regions, the area of the others."""
    beside = np.zeros(len(graph.value), bool)
    beside[graph.edges.one[graph.open[graph.edges.other]]] = True
    return replace(graph, open=graph.open | (beside & (graph.area < limits.small)), whole=graph.whole & ~beside)


def _choices(graph: Graph, limits: Limits) -> tuple[Index, Flags]:
    """The neighbour that each small region joins, itself for others; True where that cannot be told."""
    edges, area = graph.edges, np.minimum(graph.area, limits.large)
    asks = (graph.area < limits.small) & ~graph.open
    mine = np.flatnonzero(asks[edges.one])
    one, other, length = edges.one[mine], edges.other[mine], edges.length[mine]
    order = np.lexsort((-graph.first[other], -graph.value[other], area[other], length, one))
    last = order[np.flatnonzero(np.diff(one[order], append=-1))]
    chosen = np.arange(len(area))
    chosen[one[last]] = other[last]
    best = np.zeros(len(area), np.int64)
    best[one[last]] = length[last]
    unseen = ~graph.whole[other]
    # not all is seen of another one that shares as long an edge and would win if it were larger
    rival = (length == best[one]) & (graph.value[other] != graph.value[chosen[one]])
    unknown = (length == best[one]) & unseen & (area[other] < limits.large) & (other != chosen[one])
    contested, blurred, unsure = (np.zeros(len(area), bool) for _ in range(3))
    contested[one[rival]] = True
    blurred[one[unknown]] = True
    # two of one class that both go on out of sight may be one there, with both their edges
    groups, place = np.unique(one[unseen] * 256 + graph.value[other[unseen]], return_inverse=True)
    total = np.bincount(place, length[unseen], len(groups))
    holds_chosen = np.bincount(place, other[unseen] == chosen[one[unseen]], len(groups)) > 0
    several = np.bincount(place, minlength=len(groups)) > 1
    asker = groups // 256
    unsure[asker[several & ~holds_chosen & (total >= best[asker])]] = True
    return chosen, unsure | (contested & blurred)


def _roots(graph: Graph, chosen: Index) -> Index:
    """Whose class each region gets at last, where each joins the one it chose."""
    here = np.arange(len(chosen))
    mutual = (chosen[chosen] == here) & (chosen != here)
    larger = graph.area > graph.area[chosen]
    larger |= (graph.area == graph.area[chosen]) & (graph.value < graph.value[chosen])
    root = np.where(mutual & larger, here, chosen)
    while not np.array_equal(root, root[root]):
        root = root[root]
    return root


def _merged(graph: Graph, root: Index) -> tuple[Graph, Index]:
    """The graph after everyone has become part of its root, and the new number of each region."""
    value, edges = graph.value[root], graph.edges
    alike = (value[edges.one] == value[edges.other]) & ~(graph.open[edges.one] | graph.open[edges.other])
    one, other = np.concatenate([np.arange(len(root)), edges.one[alike]]), np.concatenate([root, edges.other[alike]])
    names, number = np.unique(components(len(root), one, other), return_inverse=True)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, number, graph.first)
    area = np.zeros(len(names), np.int64)
    np.add.at(area, number, graph.area)
    whole = np.ones(len(names), bool)
    whole[number[~graph.whole]] = False
    return Graph(value[names], area, first, whole, graph.open[names], edges.renumbered(number)), number
