"""Merge small regions into their neighbours, as far as it can be told from a part of the raster.

In rounds, every small region chooses the class with which it shares the longest edge; of several the one with the
larger neighbour, then the smaller class. It joins its largest neighbour of that class in this round if that is larger
than itself (of equal ones, the one with the smaller class, then the one that comes first, counts as larger); if not, it
waits, for that neighbour may soon be another's. Regions of one class that touch after a round are one region. It ends
when no region is small that has a neighbour; nodata is none.

Neighbours of one class count together because the region would join them all, and because nobody can see, without a
look at the whole raster, whether two of them are one.

Of a region that reaches beyond the part that is looked at, the area is not known but at least what is seen. Where a
choice may depend on what is not seen, the region is called open, and so is, round by round, what may depend on it:
all that is not open has the class that a look at the whole raster gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.adjacency import Edges
from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.regions import components

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
        root = _roots(np.where(is_open, np.arange(len(chosen)), chosen))
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
    mine = np.flatnonzero(((graph.area < limits.small) & ~graph.open)[edges.one])
    one, other, length = edges.one[mine], edges.other[mine], edges.length[mine]
    order = np.lexsort((-graph.first[other], area[other], graph.value[other], one))
    one, other, length = one[order], other[order], length[order]
    # one entry for each region that asks and each class around it, the largest neighbour of that class for all
    last = np.flatnonzero(np.diff(one * 256 + graph.value[other], append=-1))
    total = np.diff(np.cumsum(length)[last], prepend=0)
    unseen = np.diff(np.cumsum(~graph.whole[other] & (area[other] < limits.large))[last], prepend=0) > 0
    one, other = one[last], other[last]
    order = np.lexsort((-graph.value[other], area[other], total, one))
    best = order[np.flatnonzero(np.diff(one[order], append=-1))]
    chosen, longest = np.arange(len(area)), np.zeros(len(area), np.int64)
    chosen[one[best]], longest[one[best]] = other[best], total[best]
    # not all is seen of a neighbour that would win if it were larger: a draw, or the place of a small one of its class
    wins = other == chosen[one]
    unsure = np.zeros(len(area), bool)
    unsure[one[unseen & np.where(wins, graph.area[other] < limits.small, total == longest[one])]] = True
    joins = _is_larger(graph, chosen)
    unsure |= ~joins & ~graph.whole[chosen] & (chosen != np.arange(len(area)))
    return np.where(joins, chosen, np.arange(len(area))), unsure


def _is_larger(graph: Graph, other: Index) -> Flags:
    """True where `other` of a region is larger than the region; of equals the smaller class, then the first counts."""
    later = np.lexsort((-graph.first, -graph.value, graph.area))
    place = np.empty(len(later), np.int64)
    place[later] = np.arange(len(later))
    return np.asarray(place[other] > place)


def _roots(chosen: Index) -> Index:
    """Whose class each region gets at last, where each joins the one it chose, which is larger."""
    root = chosen
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
