"""Which regions of some rows of pixels share edges, and how long these are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from co2s_cli.geo.polygons.chains import Index
from co2s_cli.geo.polygons.regions import Regions


@dataclass(frozen=True, slots=True)
class Edges:
    """Shared edges, each from both sides; ordered by `one`, then `other`."""

    one: Index
    other: Index
    length: Index
    """In pixel sides."""

    @classmethod
    def of(cls, one: Index, other: Index, length: Index) -> Edges:
        """Sum the lengths of equal pairs; pairs of a region with itself are left out."""
        kept = one != other
        base = int(max(one.max(initial=0), other.max(initial=0))) + 1
        pairs, place = np.unique(one[kept] * base + other[kept], return_inverse=True)
        return cls(pairs // base, pairs % base, np.bincount(place, length[kept], len(pairs)).astype(np.int64))

    def renumbered(self, number: Index) -> Edges:
        """The edges that are left when region r becomes number[r]."""
        return Edges.of(number[self.one], number[self.other], self.length)


def edges(found: Regions) -> Edges:
    """All edges between regions of the rows."""
    one, other, length = _below(found)
    left, right = _beside(found)
    both = np.concatenate([one, left]), np.concatenate([other, right])
    lengths = np.concatenate([length, np.ones(len(left), np.int64)])
    return Edges.of(np.concatenate(both), np.concatenate(both[::-1]), np.tile(lengths, 2))


def _beside(found: Regions) -> tuple[Index, Index]:
    """Regions left and right of each upright edge."""
    inner = np.flatnonzero(found.starts % found.columns)
    return found.label[inner - 1], found.label[inner]


def _below(found: Regions) -> tuple[Index, Index, Index]:
    """Regions above and below each level stretch in which neither changes, and its length."""
    is_start = np.zeros(found.run_of.size, bool)
    is_start[found.starts] = True
    begins: NDArray[np.bool_] = is_start[: -found.columns] | is_start[found.columns :]
    above = np.flatnonzero(begins)
    length = np.diff(above, append=len(begins))
    return found.at(above), found.at(above + found.columns), length
